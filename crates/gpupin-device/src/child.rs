use std::{
    io::{self, Read},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What a command prints, which has no input; `None` if it had to be killed after `limit`.
pub fn output_within(command: &mut Command, limit: Duration) -> io::Result<Option<Output>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // A full pipe would keep the child from ending.
    let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if started.elapsed() > limit => {
                drop(child.kill());
                // One that hangs in the kernel does not end, and would hold us up.
                thread::spawn(move || child.wait());
                return Ok(None);
            }
            None => thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    let read = |it: thread::JoinHandle<Vec<u8>>| it.join().unwrap_or_default();
    Ok(Some(Output { status, stdout: read(out), stderr: read(err) }))
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is all there is.
        drop(pipe.map(|mut it| it.read_to_end(&mut bytes)));
        bytes
    })
}
