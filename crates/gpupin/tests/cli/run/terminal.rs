use std::{
    fs::{File, OpenOptions},
    process::{Child, Command, Stdio},
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{expect_text, project, type_text};
use crate::sandbox::Sandbox;

/// An interactive shell with job control on a terminal of its own.
pub(crate) struct Shell {
    sandbox: Sandbox,
    terminal: File,
    child: Child,
}

impl Shell {
    pub(crate) fn start() -> Self {
        let bash = ["bash", "--norc", "--noprofile", "--noediting", "-i"];
        let mut shell = Self::led_by(&bash.map(str::to_owned));
        shell.expect("> ");
        shell
    }

    /// A terminal whose session this program leads.
    fn led_by(leader: &[String]) -> Self {
        let sandbox = project();
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let open = || {
            let file = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap());
            Stdio::from(file.unwrap())
        };
        let variables = sandbox.command(&[]);
        let mut shell = Command::new("setsid");
        shell.arg("--ctty").args(leader);
        shell.env_clear().current_dir(sandbox.path());
        shell.envs(variables.get_envs().map(|(name, value)| (name, value.unwrap())));
        shell.env("PS1", "> ").env("G", env!("CARGO_BIN_EXE_gpupin"));
        let child = shell.stdin(open()).stdout(open()).stderr(open()).spawn().unwrap();
        Self { sandbox, terminal: File::from(master), child }
    }

    pub(crate) fn write(&mut self, text: &str) {
        type_text(&mut self.terminal, text);
    }

    pub(crate) fn expect(&mut self, text: &str) -> String {
        expect_text(&mut self.terminal, text)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const RUN: &str = "$G run -q --machine state --";

#[test]
fn the_program_reads_from_the_terminal_and_ctrl_c_is_its_own() {
    let mut shell = Shell::start();
    shell.write(&format!(
        "{RUN} sh -c 'trap \"echo caught; exit 5\" INT; read a; echo got-$a; while :; do sleep 0.05; done'\n"
    ));
    shell.expect("done'");
    shell.write("word\n");
    shell.expect("got-word");
    shell.write("\x03");
    shell.expect("caught");
    shell.write("echo code-$?\n");
    shell.expect("code-5");
}

#[test]
fn ctrl_z_stops_the_job_and_fg_continues_it() {
    let mut shell = Shell::start();
    shell.write(&format!("{RUN} sh -c 'echo be\"\"gins; read a; echo got-$a; exit 6'\n"));
    shell.expect("begins");
    shell.write("\x1a");
    shell.expect("Stopped");
    shell.write("fg\n");
    shell.expect("run -q");
    shell.write("again\n");
    shell.expect("got-again");
    shell.write("echo code-$?\n");
    shell.expect("code-6");
}

#[test]
fn at_ctrl_z_the_shell_gets_nothing_before_the_program_has_stopped() {
    let mut shell = Shell::start();
    // It stops late, and reads from the terminal until then.
    let program = "trap \"sleep 0.5; echo stop\\\"\\\"ping; kill -STOP \\$\\$\" TSTP; echo be\"\"gins; read a; echo got-$a; exit 6";
    shell.write(&format!("{RUN} bash -c '{program}'\n"));
    shell.expect("begins");
    shell.write("\x1a");
    let said = shell.expect("Stopped");
    let (before, _) = said.split_once("Stopped").unwrap();
    assert!(before.contains("stopping"), "{said}");
    shell.write("fg\n");
    shell.expect("run -q");
    shell.write("again\n");
    shell.expect("got-again");
    shell.write("echo code-$?\n");
    shell.expect("code-6");
}

#[test]
fn a_program_that_ignores_ctrl_z_keeps_the_terminal() {
    let mut shell = Shell::start();
    let program = "trap \"\" TSTP; echo be\"\"gins; read a; echo got-$a; exit 6";
    shell.write(&format!("{RUN} sh -c '{program}'\n"));
    shell.expect("begins");
    shell.write("\x1a");
    shell.write("again\n");
    let said = shell.expect("got-again");
    assert!(!said.contains("Stopped"), "{said}");
    shell.write("echo code-$?\n");
    shell.expect("code-6");
}

#[test]
fn a_program_that_stops_itself_stops_the_job() {
    let mut shell = Shell::start();
    shell.write(&format!("{RUN} sh -c 'kill -STOP $$; echo go\"\"es; exit 6'\n"));
    shell.expect("Stopped");
    shell.write("fg\n");
    shell.expect("goes");
    shell.write("echo code-$?\n");
    shell.expect("code-6");
}

#[test]
fn a_shell_inside_has_job_control_and_gives_the_terminal_back() {
    let mut shell = Shell::start();
    shell.write(&format!("{RUN} bash --norc --noprofile --noediting -i\n"));
    shell.expect("-i\r\n");
    shell.write("sh -c 'echo in\"\"side; exec sleep 100'\n");
    shell.expect("inside");
    shell.write("\x1a");
    shell.expect("Stopped");
    // A shell that still knows of a stopped job ends only when it is told twice. In one line, or the outer one may get the second.
    shell.write("kill %1; exit 3; exit 3\n");
    shell.write("echo code-$?\n");
    shell.expect("code-3");
}

/// Writes down what it is, and does not end by itself.
const PROGRAM: &str = "echo $$ >pid.new; mv pid.new pid; exec sleep 600";

/// Waits until there is a program that wrote its number down.
fn program(sandbox: &Sandbox) -> u32 {
    let pid = sandbox.path().join("pid");
    patiently("the program has not started", || {
        std::fs::read_to_string(&pid).ok()?.trim().parse().ok()
    })
}

#[track_caller]
fn patiently<T>(otherwise: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{otherwise}");
}

#[track_caller]
fn check_that_it_ends(pid: u32) {
    let process = std::path::PathBuf::from(format!("/proc/{pid}"));
    patiently("the program goes on", || (!process.exists()).then_some(()));
}

#[test]
fn a_terminal_that_is_closed_ends_the_program_whose_runner_leads_the_session() {
    for (args, code) in [
        (&["run", "-q", "--machine", "state"][..], 129),
        (&["lease", "hold", "--machine", "state"], 129),
        // What has run cannot be printed any more.
        (&["verify", "--machine", "state"], 2),
    ] {
        let words = [&[env!("CARGO_BIN_EXE_gpupin")], args, &["--", "sh", "-c", PROGRAM]].concat();
        let mut shell = Shell::led_by(&words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        let pid = program(&shell.sandbox);
        drop(std::mem::replace(&mut shell.terminal, File::open("/dev/null").unwrap()));
        check_that_it_ends(pid);
        let ended = patiently("the runner goes on", || shell.child.try_wait().unwrap());
        assert_eq!(ended.code(), Some(code), "{args:?}");
        let free = shell.sandbox.gpupin(&["lease", "wait", "--no-wait", "--machine", "state"]);
        assert_eq!(free.code, 0, "{args:?}: {free:?}");
    }
}

#[test]
fn a_program_that_left_the_group_of_its_runner_ends_with_the_session() {
    let mut shell = Shell::start();
    let program_of_its_own = PROGRAM.replace("sleep", "setsid sleep");
    shell.write(&format!("{RUN} sh -c '{program_of_its_own}'\n"));
    let pid = program(&shell.sandbox);
    // The kernel tells the group in front of the terminal that nobody leads the session any more.
    shell.child.kill().unwrap();
    check_that_it_ends(pid);
}
