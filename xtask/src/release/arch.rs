//! The architectures that images and archives are made for.

use std::fmt;

/// As container images and Go name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// AArch64: Graviton, Axion, Ampere.
    Arm64,
}

impl Arch {
    /// All of them, in the order of image indexes.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// As the first part of compilers' names has it.
    fn cpu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// What Rust calls it.
    #[must_use]
    pub fn triple(self) -> String {
        format!("{}-unknown-linux-gnu", self.cpu())
    }

    /// GNU's compiler for it on another machine, or another of its tools.
    #[must_use]
    pub fn gnu(self, tool: &str) -> String {
        format!("{}-linux-gnu-{tool}", self.cpu())
    }

    /// The emulator of user programs, as Debian names it.
    #[must_use]
    pub fn emulator(self) -> String {
        format!("qemu-{}-static", self.cpu())
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}
