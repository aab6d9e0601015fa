//! Pages that are made from the program, so that they cannot be wrong. `UPDATE=1 cargo test` writes them.

use std::fmt::Write as _;
use std::path::Path;

use lifeboat::base::Exit;

#[expect(clippy::disallowed_methods, reason = "a switch for developers")]
pub fn check(page: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/{page} is out of date: run `UPDATE=1 cargo test --test it docs`");
}

#[test]
fn the_command_line_is_in_cli_md() {
    let mut command = lifeboat::cli::command_line().term_width(110);
    command.build();
    let mut page = String::from(
        "# The command line\n\nMade from the program by `UPDATE=1 cargo test --test it docs`; do not edit.\n",
    );
    section(&mut page, &mut command, "lifeboat");
    check("cli.md", &page);
}

fn section(page: &mut String, command: &mut clap::Command, name: &str) {
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    write!(page, "\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end()).unwrap();
    for inner in command.get_subcommands_mut() {
        if inner.get_name() != "help" && !inner.is_hide_set() {
            let name = format!("{name} {}", inner.get_name());
            section(page, inner, &name);
        }
    }
}

#[test]
fn the_exit_statuses_are_in_codes_md() {
    let mut page = String::from(
        "# Exit statuses\n\nMade from `src/base/code.rs` by `UPDATE=1 cargo test --test it docs`; do not edit. \
         A number is never reused.\nWith `--json` the last line on stderr of a command that failed has the number as \
         `code` and the word as `id`, also where it gave its answer on stdout; only a command whose output nobody reads any \
         more ends without.\n\n| status | word | meaning |\n|---|---|---|\n",
    );
    for exit in Exit::ALL {
        writeln!(page, "| {} | `{}` | {} |", exit.number(), exit.id(), exit.meaning()).unwrap();
    }
    check("codes.md", &page);
}

#[test]
fn statuses_are_unique() {
    let mut numbers: Vec<u8> = Exit::ALL.iter().map(|exit| exit.number()).collect();
    let mut words: Vec<&str> = Exit::ALL.iter().map(|exit| exit.id()).collect();
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    words.sort_unstable();
    words.dedup();
    assert_eq!((numbers.len(), words.len()), (count, count));
}
