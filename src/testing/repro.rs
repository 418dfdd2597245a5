//! One line that leads back to a failure.

use std::fmt;
use std::str::FromStr;

use super::crash::CrashPoint;

/// Names a crash test that failed: the seed of its workload and the way to the state, through
/// crashes during recovery if there were any. Shown as, and read from, `seed=42 at=120:7/3:1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repro {
    /// The seed that the workload follows from.
    pub seed: u64,
    /// The crash of the workload, then the crash of the recovery from it, and so on.
    pub at: Vec<CrashPoint>,
}

impl Repro {
    /// The environment variable that tests read to replay one failure.
    pub const VARIABLE: &'static str = "SILTSTONE_REPRO";

    /// The failure to replay, if the environment names one.
    ///
    /// # Errors
    ///
    /// The variable is set to something that is not such a line; the text says what is wrong.
    pub fn from_env() -> Result<Option<Self>, String> {
        std::env::var(Self::VARIABLE).ok().map(|line| line.parse()).transpose()
    }
}

impl fmt::Display for Repro {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at: Vec<String> = self.at.iter().map(CrashPoint::to_string).collect();
        write!(f, "seed={} at={}", self.seed, at.join("/"))
    }
}

impl FromStr for Repro {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let field = |name: &str| {
            let found = line.split_whitespace().find_map(|word| word.strip_prefix(name));
            found.ok_or_else(|| format!("{line:?} has no {name}"))
        };
        let seed = field("seed=")?.parse().map_err(|e| format!("seed in {line:?}: {e}"))?;
        let at = field("at=")?.split('/').filter(|part| !part.is_empty());
        Ok(Repro { seed, at: at.map(str::parse).collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_read_back() {
        let at = vec![CrashPoint { cut: 120, choice: 7 }, CrashPoint { cut: 3, choice: 1 }];
        let repro = Repro { seed: 42, at };
        assert_eq!(repro.to_string(), "seed=42 at=120:7/3:1");
        assert_eq!(format!("REPRO crash {repro}").parse(), Ok(repro));
        assert!("seed=x at=1:2".parse::<Repro>().is_err());
        assert!("seed=1".parse::<Repro>().is_err());
    }
}
