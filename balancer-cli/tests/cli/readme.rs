//! The README's `balancer` commands, as they stand there.

use std::{fs, path::Path};

use super::support::{ROUND_ROBIN, run};
use balancer_cli::Backend;

/// The `$ balancer ..` commands of a text: lines that end with `\` go on, what follows ` #` is said to
/// the reader.
fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim);
    let commands = lines.filter_map(|line| line.strip_prefix("$ balancer "));
    let commands = commands.map(|line| line.split(" #").next().unwrap_or(line));
    commands.map(str::to_owned).collect()
}

/// The words of a command as a shell splits them; only single quotes are needed.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in command.split('\'').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_works() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).expect("the README");
    let commands = commands(&readme);
    assert!(commands.len() >= 3, "must find them: {commands:?}");

    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("service-config.json");
    fs::write(&config, ROUND_ROBIN).expect("a file");
    let backend = Backend::start().await.expect("a server");
    for command in &commands {
        // What the reader has in their place, here is ours.
        let words = words(command).into_iter().map(|word| match word.as_str() {
            "service-config.json" => config.display().to_string(),
            "dns:///greeter.prod:50051" => format!("dns:///localhost:{}", backend.addr().port()),
            _ => word,
        });
        let ran = run(words).await;
        assert_eq!(ran.code, 0, "`balancer {command}` must work: {ran:?}");
        assert!(!ran.stdout.is_empty(), "must say something: {command}");
    }
    assert_eq!(backend.begun(), 1_000, "must send the RPCs that it shows");
}
