//! One command and everything it starts: a supervisor that adopts whatever the command leaves behind,
//! so that a job can be stopped as a whole, also when its processes made sessions of their own.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process;

use rustix::process::{Signal, WaitOptions};

use super::privilege;
use super::recipe::{Command, Recipe};
use crate::sys::namespace::{self, Fork};

/// A supervisor's number, and where it reports.
pub(super) struct Started {
    pub supervisor: rustix::process::Pid,
    pub report: OwnedFd,
}

/// Starts a command with `stdio` as its standard input, output and error.
pub(super) fn start(
    recipe: &Recipe,
    isolated: bool,
    counted: u64,
    command: &Command,
    stdio: &[OwnedFd],
) -> io::Result<Started> {
    let [stdin, stdout, stderr] = stdio else { return Err(io::Error::other("three descriptors are needed")) };
    let (report, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match namespace::fork()? {
        Fork::Parent(supervisor) => Ok(Started { supervisor, report }),
        Fork::Child => {
            let keep = [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd(), tell.as_raw_fd()];
            let status = match namespace::keep_only(&keep) {
                Ok(tell) => supervise(recipe, isolated, counted, command, File::from(tell)),
                Err(_) => 1,
            };
            namespace::exit(status)
        }
    }
}

fn supervise(recipe: &Recipe, isolated: bool, counted: u64, command: &Command, mut tell: File) -> i32 {
    match begin(recipe, isolated, counted, command, &tell) {
        Ok(main) => {
            let mut all = WaitOptions::empty();
            all.remove(WaitOptions::NOHANG);
            loop {
                match rustix::process::wait(all) {
                    Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == main => {
                        let (exit, signal) = (status.exit_status(), status.terminating_signal());
                        let _ = writeln!(tell, "E {} {}", exit.unwrap_or(-1), signal.unwrap_or(-1));
                    }
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    // nothing is left
                    Err(_) => return 0,
                }
            }
        }
        Err(error) => {
            let _ = writeln!(tell, "X {}", error.to_string().replace('\n', " "));
            1
        }
    }
}

fn begin(recipe: &Recipe, isolated: bool, counted: u64, command: &Command, tell: &File) -> io::Result<i32> {
    use std::os::fd::AsFd as _;
    namespace::close_on_exec(tell.as_fd())?;
    rustix::process::setsid()?;
    // any process number will do: it means "yes"
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    privilege::give_up(recipe, isolated, counted)?;
    // a change of user forgets this, so it comes after
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let (program, arguments) =
        command.argv.split_first().ok_or_else(|| io::Error::other("the command has no program"))?;
    let child = process::Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(recipe.environment.iter().map(|(name, value)| (name, value)))
        .envs(command.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(command.directory.as_ref().unwrap_or(&recipe.directory))
        .process_group(0)
        .spawn()?;
    // whoever reads the output must see its end when the command and its children have ended
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    i32::try_from(child.id()).map_err(io::Error::other)
}
