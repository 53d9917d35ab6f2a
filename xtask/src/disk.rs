//! What a run of CI takes of the disk: a full one fails steps that have nothing wrong with them.

use std::{path::Path, process::Command};

use crate::workspace::Workspace;

/// What the target directory may come to in a run from nothing, in MiB.
const BUDGET: u64 = 8 * 1024;

/// MiB in the target directory, if `du` says.
pub fn taken(workspace: &Workspace) -> Option<u64> {
    let target = workspace.metadata().ok()?.target_directory;
    let told = say("du", "-sk", target.as_std_path())?;
    let kib: u64 = told.split_whitespace().next()?.parse().ok()?;
    Some(kib >> 10)
}

/// MiB that are free where the target directory is, if `df` says.
pub fn free(workspace: &Workspace) -> Option<u64> {
    let target = workspace.metadata().ok()?.target_directory;
    let exists = |path: &&Path| path.exists();
    let at = target.as_std_path().ancestors().find(exists)?;
    available(&say("df", "-Pk", at)?)
}

/// What to say before the first step.
pub fn prospect(free: Option<u64>) -> String {
    match free {
        None => "disk: df does not say how much is free".into(),
        Some(free) if free < BUDGET => {
            format!("disk: {free} MiB free, and a run from nothing may take {BUDGET}")
        }
        Some(free) => format!("disk: {free} MiB free"),
    }
}

/// What to say after the last.
pub fn account(taken: Option<u64>, free: Option<u64>) -> String {
    let or_unknown =
        |mib: Option<u64>| mib.map_or("an unknown number of".into(), |n| n.to_string());
    let over = taken.is_some_and(|taken| taken > BUDGET);
    let over = if over {
        format!(", more than the {BUDGET} that a run from nothing may take")
    } else {
        String::new()
    };
    format!(
        "disk: {} MiB in the target directory{over}, {} MiB free",
        or_unknown(taken),
        or_unknown(free)
    )
}

fn say(program: &str, option: &str, of: &Path) -> Option<String> {
    let told = Command::new(program).arg(option).arg(of).output().ok()?;
    String::from_utf8(told.stdout).ok()
}

/// The column `Available` of `df -Pk`, in MiB.
fn available(told: &str) -> Option<u64> {
    let kib: u64 = told
        .lines()
        .nth(1)?
        .split_whitespace()
        .nth(3)?
        .parse()
        .ok()?;
    Some(kib >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_df_says_is_understood() {
        let told = "Filesystem 1024-blocks Used Available Capacity Mounted on\n\
                    /dev/vda 264000000 89000000 6920000 93% /\n";
        assert_eq!(available(told), Some(6757));
        assert_eq!(available("df: no such file"), None);
    }

    #[test]
    fn too_little_and_too_much_are_said() {
        assert_eq!(prospect(Some(9000)), "disk: 9000 MiB free");
        assert!(prospect(Some(100)).contains("may take 8192"));
        assert!(account(Some(9000), Some(1)).contains("more than the 8192"));
        assert!(!account(Some(5), None).contains("more than"));
    }
}
