//! Many real processes at the queue, many of them killed at random.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use gpupin_run::lease::{Directory, line};

use crate::sandbox::Sandbox;

const GPU: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";

/// A generator of numbers that are not predictable enough to be regular. The seed is the test's.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        // Xorshift, Marsaglia 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

fn client(sandbox: &Sandbox, slots: u32, hold: Option<&str>) -> Child {
    let slots = slots.to_string();
    let mut args = vec!["debug", "lease-client", "--dir", "state", "--gpu", GPU, "--slots", &slots];
    args.extend(["--journal", "journal"]);
    args.extend(hold.into_iter().flat_map(|it| ["--hold", it]));
    let mut command: Command = sandbox.command(&args);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn wait_for_line(directory: &Directory, length: usize) {
    while line(directory, &GPU.parse().unwrap()).unwrap().len() < length {
        thread::sleep(Duration::from_millis(50));
    }
}

fn note(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Lets `count` processes stand in line, kills a third of them at random moments, and reads what the others noted.
#[track_caller]
fn check(count: usize, slots: u32, seed: u64) {
    let sandbox = Sandbox::in_memory().file("state/x", "");
    let state = sandbox.path().join("state");
    let directory = Directory::open(&state).unwrap();
    let journal = sandbox.path().join("journal");
    let mut random = Random(seed);
    let mut killed = BTreeSet::new();

    // The first ones hold until everybody is there.
    let mut gates: Vec<_> = (0..slots).map(|_| client(&sandbox, slots, None)).collect();
    wait_for_line(&directory, gates.len());
    let mut clients: Vec<Child> = (0..count).map(|_| client(&sandbox, slots, Some("1"))).collect();
    wait_for_line(&directory, gates.len() + count);

    let kill = |client: &mut Child, killed: &mut BTreeSet<u32>| {
        killed.insert(client.id());
        // Before it dies, because the next one may note that it holds at once.
        note(&journal, &format!("killed {} -\n", client.id()));
        client.kill().unwrap();
    };
    // While they wait.
    for _ in 0..count / 6 {
        kill(&mut clients[random.below(count)], &mut killed);
    }
    for gate in &mut gates {
        drop(gate.stdin.take());
    }
    // While the line moves on.
    for _ in 0..count / 6 {
        thread::sleep(Duration::from_millis(random.below(12) as u64));
        kill(&mut clients[random.below(count)], &mut killed);
    }
    for client in gates.into_iter().chain(clients) {
        let id = client.id();
        let output = client.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || killed.contains(&id), "{}\n{error}", output.status);
    }

    let mut holders = BTreeSet::new();
    let mut last = 0;
    let mut had = 0;
    for line in fs::read_to_string(&journal).unwrap().lines() {
        let mut words = line.split(' ');
        let (what, pid) = (words.next().unwrap(), words.next().unwrap());
        if what != "holds" {
            holders.remove(pid);
            continue;
        }
        // `1:GPU-….7.1:/path`
        let ticket = words.next().unwrap().split(':').nth(1).unwrap();
        let number: u64 = ticket.split('.').nth(1).unwrap().parse().unwrap();
        had += 1;
        // One that was killed may be the one that notes this.
        if !killed.contains(&pid.parse().unwrap()) {
            holders.insert(pid.to_owned());
        }
        assert!(holders.len() <= slots as usize, "too many hold at `{line}`");
        // With several slots the second may note it before the first.
        assert!(slots > 1 || number > last, "out of order at `{line}`, behind {last}");
        last = last.max(number);
    }
    assert!(had >= count + slots as usize - killed.len(), "{had} of {count} had it");
    let rest = line(&directory, &GPU.parse().unwrap()).unwrap();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn two_hundred_processes_take_turns_while_some_are_killed() {
    check(200, 1, 0x9e37_79b9_7f4a_7c15);
}

#[test]
fn two_slots_are_kept_while_some_are_killed() {
    check(48, 2, 0xd1b5_4a32_d192_ed03);
}
