//! Files that are named twice, under whatever names.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::input::STANDARD_INPUT;

/// The first two names that lead to the same file, also by links: each of its lines would count
/// twice. What cannot be looked at is left to those who open it.
#[must_use]
pub fn named_twice(paths: &[PathBuf]) -> Option<(&Path, &Path)> {
    let mut seen = HashMap::new();
    paths.iter().map(PathBuf::as_path).find_map(|path| {
        let identity = if path == Path::new(STANDARD_INPUT) {
            None
        } else {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        seen.insert(identity, path).map(|other| (other, path))
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::named_twice;

    #[test]
    fn a_file_is_found_under_every_name() -> std::io::Result<()> {
        let folder = std::env::temp_dir().join(format!("twice-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder)?;
        let path = |name: &str| folder.join(name);
        std::fs::write(path("a"), "equal\n")?;
        std::fs::write(path("b"), "equal\n")?;
        std::fs::hard_link(path("a"), path("hard"))?;
        std::os::unix::fs::symlink(path("a"), path("soft"))?;
        for (paths, twice) in [
            (vec![path("a"), path("b")], false),
            (vec![path("a"), path("b"), path("a")], true),
            (vec![path("a"), path("hard")], true),
            (vec![path("b"), path("a"), path("soft")], true),
            (vec![PathBuf::from("-"), path("a")], false),
            (vec![PathBuf::from("-"), PathBuf::from("-")], true),
            (vec![path("none"), path("none")], false),
        ] {
            assert_eq!(named_twice(&paths).is_some(), twice, "{paths:?}");
        }
        std::fs::remove_dir_all(&folder)
    }
}
