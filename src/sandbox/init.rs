//! The first process inside: starts, watches and ends jobs as the parent asks, adopts orphans, and is
//! the one whose end ends all.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions};

use super::job;
use super::process;
use super::recipe::{Limits, OF_DISK, Recipe};
use super::wire::{self, Ask, Tell};
use crate::sys::namespace;
use crate::sys::space::space;

/// How often limits are looked at while a job runs.
const WATCH: Duration = Duration::from_millis(50);
/// How often processes that are to end are looked for.
const STOPPING: Duration = Duration::from_millis(5);
/// Processes that do not die in this time never will: they hang in the kernel.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Init {
    pub control: OwnedFd,
    pub recipe: Recipe,
    pub isolated: bool,
    /// Processes the application's user has outside, which the system counts as well.
    pub counted: u64,
    /// Whether memory and processes are held by a cgroup.
    pub cgroup: bool,
    /// Where to look for free space.
    pub scratch: PathBuf,
    pub jobs: BTreeMap<u64, Job>,
}

pub(super) struct Job {
    supervisor: Pid,
    report: std::fs::File,
    told: Vec<u8>,
    ended: bool,
    /// When it is killed, if it has been asked to end.
    kill_at: Option<Instant>,
    limit: Option<String>,
}

impl Init {
    /// Serves until the parent closes or goes away. When this returns, end the process.
    pub fn serve(mut self) {
        let mut watched = Instant::now();
        loop {
            match self.wait() {
                Ok(true) => match wire::receive::<Ask>(&self.control) {
                    Ok(Some((Ask::Close, _))) => return self.close(true),
                    Ok(Some((ask, fds))) => self.obey(ask, &fds),
                    Ok(None) | Err(_) => return self.close(false),
                },
                Ok(false) => {}
                Err(_) => return self.close(false),
            }
            self.reports();
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
            self.kill_late();
            if watched.elapsed() >= WATCH && !self.jobs.is_empty() {
                watched = Instant::now();
                self.watch();
            }
        }
    }

    // True if the parent has something to say, or has gone.
    fn wait(&self) -> io::Result<bool> {
        let pause = match () {
            () if self.jobs.values().any(|job| job.kill_at.is_some()) => Some(STOPPING),
            () if !self.jobs.is_empty() => Some(WATCH),
            () => None,
        };
        let mut fds = vec![PollFd::new(&self.control, PollFlags::IN)];
        fds.extend(self.jobs.values().map(|job| PollFd::new(&job.report, PollFlags::IN)));
        let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
        match poll(&mut fds, pause.as_ref()) {
            Ok(_) => Ok(!fds[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn tell(&self, message: &Tell) {
        // if the parent has gone, the next wait says so
        let _ = wire::send(self.control.as_fd(), message, &[]);
    }

    fn obey(&mut self, ask: Ask, fds: &[OwnedFd]) {
        match ask {
            Ask::Start { job: number, command } => {
                let started =
                    job::start(&self.recipe, self.isolated, self.counted, &command, fds).and_then(|s| {
                        rustix::io::ioctl_fionbio(&s.report, true)?;
                        Ok(s)
                    });
                match started {
                    Ok(started) => {
                        let job = Job {
                            supervisor: started.supervisor,
                            report: started.report.into(),
                            told: Vec::new(),
                            ended: false,
                            kill_at: None,
                            limit: None,
                        };
                        self.jobs.insert(number, job);
                    }
                    Err(error) => self.tell(&Tell::NotStarted { job: number, cause: error.to_string() }),
                }
            }
            Ask::Stop { job: number, grace_ms } => match self.jobs.get_mut(&number) {
                Some(job) => {
                    process::signal(&process::of(&process::all(), job.supervisor), Signal::TERM);
                    job.kill_at = Some(Instant::now() + Duration::from_millis(grace_ms));
                }
                None => self.tell(&Tell::Gone { job: number }),
            },
            Ask::Close => {}
        }
    }

    // What supervisors have to say: how the command ended, and by their own end that nothing is left.
    fn reports(&mut self) {
        let mut news = Vec::new();
        let mut gone = Vec::new();
        for (&number, job) in &mut self.jobs {
            let end = match job.report.read_to_end(&mut job.told) {
                Ok(_) => true,
                Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            };
            if !job.ended
                && let Some(tell) = job.news(number, end)
            {
                job.ended = true;
                news.push(tell);
            }
            if end {
                gone.push(number);
            }
        }
        for number in gone {
            self.jobs.remove(&number);
            news.push(Tell::Gone { job: number });
        }
        for tell in &news {
            self.tell(tell);
        }
    }

    fn kill_late(&mut self) {
        let now = Instant::now();
        let late: Vec<Pid> = self
            .jobs
            .values()
            .filter(|job| job.kill_at.is_some_and(|at| at <= now))
            .map(|job| job.supervisor)
            .collect();
        for supervisor in late {
            process::kill(supervisor);
        }
    }

    fn watch(&mut self) {
        let Some(reached) = self.reached(&self.recipe.limits) else { return };
        for job in self.jobs.values_mut() {
            job.limit.get_or_insert_with(|| reached.clone());
            job.kill_at = Some(Instant::now());
        }
        self.kill_all();
    }

    // A supervisor that dies with its job is no loss: its end is the news.
    fn kill_all(&self) {
        if !self.isolated || namespace::kill_all_others().is_err() {
            process::signal(&process::all(), Signal::KILL);
        }
    }

    fn reached(&self, limits: &Limits) -> Option<String> {
        if let Some(free) = limits.free
            && space(&self.scratch).is_ok_and(|found| found.free_bytes < free)
        {
            return Some(format!("{OF_DISK}: fewer than {free} bytes are free"));
        }
        if self.cgroup || (limits.memory.is_none() && limits.processes.is_none()) {
            return None;
        }
        let all = process::all();
        let (memory, count) = (process::memory(&all), all.len().saturating_sub(self.jobs.len()) as u64);
        if let Some(limit) = limits.memory.filter(|&limit| memory > limit) {
            return Some(format!("memory: {memory} bytes of {limit}"));
        }
        let limit = limits.processes.filter(|&limit| count > limit)?;
        Some(format!("processes: {count} of {limit}"))
    }

    // Kills everything below; as this process adopts all orphans, having no child means that nothing is left.
    fn close(self, answer: bool) {
        let deadline = Instant::now() + PATIENCE;
        let left = loop {
            self.kill_all();
            let ended = loop {
                match rustix::process::wait(WaitOptions::NOHANG) {
                    Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            if ended {
                break 0;
            }
            if Instant::now() > deadline {
                break process::all().len().max(1) as u64;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if answer {
            self.tell(&Tell::Closed { left });
        }
    }
}

impl Job {
    fn news(&self, job: u64, end: bool) -> Option<Tell> {
        let text = String::from_utf8_lossy(&self.told);
        let limit = self.limit.clone();
        let Some((line, _)) = text.split_once('\n') else {
            // the supervisor was killed: by the command, or for want of memory
            return end.then_some(Tell::Ended { job, exit: None, signal: Some(9), limit });
        };
        if let Some(cause) = line.strip_prefix("X ") {
            return Some(Tell::NotStarted { job, cause: cause.to_owned() });
        }
        let mut numbers = line.split(' ').skip(1).map(|word| word.parse().ok().filter(|&n: &i32| n >= 0));
        Some(Tell::Ended { job, exit: numbers.next().flatten(), signal: numbers.next().flatten(), limit })
    }
}
