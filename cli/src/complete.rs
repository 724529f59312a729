//! Completion inside of kubectl, which asks an executable called `kubectl_complete-clickstream`: a link to this one.
//!
//! It is given the words behind `kubectl clickstream`, the last of them unfinished, and prints a line per candidate and one
//! line that says what else to offer, as cobra has it.

use std::{ffi::OsString, path::Path, time::Duration};

use clap::{Arg, Command, CommandFactory as _};
use kube::{ResourceExt, api::ListParams};

use crate::{
    access,
    args::{Cli, Global},
};

/// The name that kubectl looks for.
const ASKED_AS: &str = "kubectl_complete-clickstream";
/// Nobody waits longer for a key.
const PATIENCE: Duration = Duration::from_secs(3);
/// Nothing else is to be offered.
const NOTHING_ELSE: &str = ":4";
/// Names of files are to be offered.
const FILES: &str = ":0";

/// What kubectl wants completed, if that is why this runs.
#[must_use]
pub fn asked() -> Option<Vec<String>> {
    let mut words = std::env::args_os();
    let called = words.next()?;
    let name = Path::new(&called).file_stem()?;
    (name == ASKED_AS).then(|| {
        words
            .filter_map(|word| OsString::into_string(word).ok())
            .collect()
    })
}

/// The lines for kubectl.
pub async fn answer(words: &[String]) -> String {
    let command = Cli::command();
    let (candidates, rest) = match wanted(&command, words) {
        Wanted::One(candidates) => (candidates, NOTHING_ELSE),
        Wanted::Pipeline => (pipelines(words).await.unwrap_or_default(), NOTHING_ELSE),
        Wanted::File => (Vec::new(), FILES),
    };
    let begun = words.last().map_or("", String::as_str);
    let mut lines: Vec<String> = candidates
        .into_iter()
        .filter(|candidate| candidate.starts_with(begun))
        .collect();
    lines.push(rest.to_owned());
    lines.join("\n") + "\n"
}

/// What the unfinished word can become.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// One of these.
    One(Vec<String>),
    /// The name of a pipeline.
    Pipeline,
    /// The name of a file.
    File,
}

fn wanted(root: &Command, words: &[String]) -> Wanted {
    let (begun, before) = words
        .split_last()
        .map_or(("", words), |(last, before)| (last.as_str(), before));
    let mut command = root;
    let (mut positionals, mut value_of): (usize, Option<&Arg>) = (0, None);
    for word in before {
        if value_of.take().is_some() {
            continue;
        }
        if word.starts_with('-') {
            value_of =
                option(root, command, word).filter(|arg| takes_value(arg) && !word.contains('='));
        } else if let Some(chosen) = command.find_subcommand(word) {
            command = chosen;
        } else {
            positionals += 1;
        }
    }
    if let Some(arg) = value_of {
        return values(arg);
    }
    if begun.starts_with('-') {
        return Wanted::One(flags(root, command));
    }
    let mut commands = command
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
        .peekable();
    if commands.peek().is_some() {
        return Wanted::One(commands.map(described).collect());
    }
    // `validate` takes any number of files, all others one word at most
    let mut left = command.get_positionals();
    match left
        .nth(positionals)
        .or_else(|| command.get_positionals().last().filter(|arg| is_many(arg)))
    {
        Some(arg) => values(arg),
        None => Wanted::One(Vec::new()),
    }
}

fn described(command: &Command) -> String {
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    format!("{}\t{about}", command.get_name())
}

fn option<'c>(root: &'c Command, command: &'c Command, word: &str) -> Option<&'c Arg> {
    let name = word.trim_start_matches('-');
    let name = name.split('=').next().unwrap_or(name);
    root.get_arguments()
        .chain(command.get_arguments())
        .find(|arg| {
            arg.get_long() == Some(name)
                || arg
                    .get_short()
                    .is_some_and(|short| name == short.to_string())
        })
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

fn is_many(arg: &Arg) -> bool {
    matches!(arg.get_action(), clap::ArgAction::Append)
}

fn values(arg: &Arg) -> Wanted {
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        let names = possible.iter().map(|value| value.get_name().to_owned());
        return Wanted::One(names.collect());
    }
    match arg.get_id().as_str() {
        "name" => Wanted::Pipeline,
        "files" | "kubeconfig" => Wanted::File,
        _ => Wanted::One(Vec::new()),
    }
}

fn flags(root: &Command, command: &Command) -> Vec<String> {
    root.get_arguments()
        .chain(command.get_arguments())
        .filter_map(Arg::get_long)
        .map(|long| format!("--{long}"))
        .chain(["--help".to_owned()])
        .collect()
}

/// The flags that say where to look, among words that are no whole command yet.
fn place(root: &Command, words: &[String]) -> Global {
    let mut place = Global::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(arg) =
            option(root, root, word).filter(|arg| word.starts_with('-') && takes_value(arg))
        else {
            continue;
        };
        let value = match word.split_once('=') {
            Some((_, value)) => Some(value.to_owned()),
            None => words.next().cloned(),
        };
        match arg.get_id().as_str() {
            "namespace" => place.namespace = value,
            "context" => place.context = value,
            "kubeconfig" => place.kubeconfig = value.map(Into::into),
            _ => {}
        }
    }
    place
}

/// Names of pipelines, or nothing: a key is no place for an error.
async fn pipelines(words: &[String]) -> Option<Vec<String>> {
    let before = &words[..words.len().saturating_sub(1)];
    let place = place(&Cli::command(), before);
    let listed = async {
        let access = access::connect(&place).await.ok()?;
        access.pipelines().list(&ListParams::default()).await.ok()
    };
    let listed = tokio::time::timeout(PATIENCE, listed).await.ok()??;
    Some(listed.iter().map(ResourceExt::name_any).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(line: &str) -> Wanted {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        wanted(&Cli::command(), &words)
    }

    fn one(wanted: Wanted) -> Vec<String> {
        match wanted {
            Wanted::One(candidates) => candidates,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_word_is_a_command_also_behind_flags() {
        for line in ["", "-n shop ", "--no-color au"] {
            let commands = one(wants(line));
            assert!(
                commands
                    .iter()
                    .any(|command| command.starts_with("audit\tReads")),
                "{line}: {commands:?}"
            );
        }
    }

    #[test]
    fn commands_about_a_pipeline_take_its_name_once() {
        for line in ["status ", "pause w", "-n shop audit ", "status -o json "] {
            assert_eq!(wants(line), Wanted::Pipeline, "{line}");
        }
        assert_eq!(one(wants("pause web ")), [""; 0]);
    }

    #[test]
    fn values_that_are_known_are_offered() {
        assert_eq!(
            one(wants("status web -o ")),
            ["table", "wide", "json", "yaml"]
        );
        assert!(one(wants("completion ")).contains(&"zsh".to_owned()));
        assert_eq!(wants("validate "), Wanted::File);
        assert_eq!(wants("validate a.yaml b"), Wanted::File);
        assert_eq!(wants("--kubeconfig "), Wanted::File);
    }

    #[test]
    fn names_are_looked_for_where_the_flags_say() {
        let words = [
            "status",
            "-n",
            "shop",
            "--context=kind",
            "-o",
            "json",
            "--kubeconfig",
            "a",
        ];
        let place = place(&Cli::command(), &words.map(str::to_owned));
        assert_eq!(place.namespace.as_deref(), Some("shop"));
        assert_eq!(place.context.as_deref(), Some("kind"));
        assert_eq!(place.kubeconfig.as_deref(), Some(Path::new("a")));
    }

    #[test]
    fn flags_are_those_of_the_command_and_of_all() {
        let flags = one(wants("audit web --"));
        for flag in ["--target", "--namespace", "--help"] {
            assert!(flags.contains(&flag.to_owned()), "{flags:?}");
        }
        assert!(!flags.contains(&"--watch".to_owned()), "{flags:?}");
    }
}
