//! A shell inside, on a terminal.

use lifeboat::sandbox::Command;
use serde_json::json;

use crate::world::{PYTHON, World, have_python, people};

// Plays a person at a terminal: types lines, and gives all that was shown.
const PERSON: &str = "import os, pty, select, signal, sys, time
lines = sys.argv[1].encode().split(b'|')
child, master = pty.fork()
if child == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
shown, deadline = b'', time.time() + 60
while time.time() < deadline:
    ready, _, _ = select.select([master], [], [], 0.3)
    if ready:
        try:
            data = os.read(master, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
    elif lines:
        os.write(master, lines.pop(0) + b'\\n')
sys.stdout.buffer.write(shown)
if time.time() >= deadline:
    os.kill(child, signal.SIGKILL)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))";

#[test]
fn a_shell_inside_has_a_terminal_of_its_own() {
    if !have_python() {
        return;
    }
    for who in people() {
        let world = World::new(who);
        let script = json!({ "recipe": world.recipe(), "commands": [], "interact": Command::shell("exec setsid --ctty --wait sh -i") });
        let file = world.file("script.json", &script.to_string());
        let typed =
            "echo in-$((40+2))-side|test -t 0 && echo a-terminal; tty|stty size|sleep 600 &|jobs|exit 3";
        let mut person = world.as_person(PYTHON);
        person.args(["-c", PERSON, typed]).arg(world.program()).args(["__sandbox", "run"]).arg(&file);
        let output = person.output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        for wanted in ["in-42-side", "a-terminal", "\"closed\":{\"left\":0}"] {
            assert!(
                shown.contains(wanted),
                "as {who:?}, {wanted}: {shown}\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        assert_eq!(output.status.code(), Some(0), "as {who:?}: {shown}");
    }
}
