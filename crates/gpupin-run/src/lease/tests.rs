use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    sync::mpsc::{Sender, channel},
    thread,
    time::{Duration, SystemTime},
};

use gpupin_policy::GpuUuid;
use tempfile::TempDir;

use super::{
    Cancel, Directory, HolderText, Hooks, Lease, LeaseError, Outer, Patience, Place, Request,
    Waiting, WaitsFor, acquire, lines,
};
use crate::process::ProcessId;

fn gpu(number: u8) -> GpuUuid {
    format!("GPU-{number:08}-d72c-4106-c12f-20bd9faed9f6").parse().unwrap()
}

fn directory() -> (TempDir, Directory) {
    let temporary = tempfile::tempdir().unwrap();
    let directory = Directory::open(temporary.path()).unwrap();
    (temporary, directory)
}

fn request(gpus: &[u8], patience: Patience) -> Request {
    let process = ProcessId::this().unwrap();
    Request {
        gpus: gpus.iter().map(|it| gpu(*it)).collect(),
        count: gpus.len(),
        slots: 1,
        holder: HolderText { process, command: "python train.py".to_owned() },
        outer: None,
        patience,
    }
}

const NOW: Patience = Patience::For(Duration::ZERO);

/// Acquires, on a machine that shows no leftovers.
fn take(directory: &Directory, request: &Request) -> Result<Lease, LeaseError> {
    take_telling(directory, request, &Cancel::default(), &mut |_| {})
}

fn take_telling(
    directory: &Directory,
    request: &Request,
    cancel: &Cancel,
    tell: &mut dyn FnMut(&Waiting),
) -> Result<Lease, LeaseError> {
    let clear = &mut |_: &GpuUuid, _: &[ProcessId]| Vec::new();
    acquire(directory, request, &mut Hooks { tell, clear, cancel, clock: SystemTime::now })
}

fn files(directory: &Directory) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).unwrap();
    let mut names: Vec<_> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn assert_busy(result: Result<Lease, LeaseError>) -> Waiting {
    match result {
        Err(LeaseError::Busy { waiting } | LeaseError::BusyInside { waiting }) => *waiting,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_gpu_has_one_holder_and_is_given_back() {
    let (_temporary, directory) = directory();
    let held = take(&directory, &request(&[1], NOW)).unwrap();
    let waiting = assert_busy(take(&directory, &request(&[1], NOW)));
    let WaitsFor::Turn { position, ahead } = waiting.what else { panic!("{waiting:?}") };
    assert_eq!((position, ahead.len()), (1, 1));
    assert_eq!(ahead[0].text.as_ref().unwrap().command, "python train.py");
    let listed = &lines(&directory).unwrap()[&gpu(1)][0];
    assert_eq!(listed.locked_by.unwrap().0, std::process::id());
    assert!(ahead[0].came.is_some() && ahead[0].held.is_some());
    drop(take(&directory, &request(&[2], NOW)).unwrap());
    drop(held);
    assert_eq!(files(&directory), ["queue.lock"]);
    drop(take(&directory, &request(&[1], NOW)).unwrap());
}

#[test]
fn as_many_hold_as_there_are_slots() {
    let (_temporary, directory) = directory();
    let two = Request { slots: 2, ..request(&[1], NOW) };
    let (_a, b) = (take(&directory, &two).unwrap(), take(&directory, &two).unwrap());
    assert_busy(take(&directory, &two));
    drop(b);
    // Who wants it alone does not share with who would.
    assert_busy(take(&directory, &request(&[1], NOW)));
    drop(take(&directory, &two).unwrap());
}

/// Requests that wait, in a thread each. The sender gets a number when its request holds, and it holds until told to go on.
fn in_line<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    directory: &'scope Directory,
    number: usize,
    told: &Sender<(usize, &'static str)>,
) -> Sender<()> {
    let (go_on, wait) = channel();
    let mine = told.clone();
    scope.spawn(move || {
        let telling = mine.clone();
        let mut has_told = false;
        let lease = take_telling(
            directory,
            &request(&[1], Patience::Forever),
            &Cancel::default(),
            &mut |_| {
                if !std::mem::replace(&mut has_told, true) {
                    telling.send((number, "waits")).unwrap();
                }
            },
        );
        mine.send((number, "holds")).unwrap();
        wait.recv().unwrap();
        drop(lease.unwrap());
    });
    go_on
}

#[test]
fn who_came_first_is_first() {
    let (_temporary, directory) = directory();
    let (tell, told) = channel();
    thread::scope(|scope| {
        let mut go_on = Vec::new();
        for number in 0..8 {
            go_on.push(in_line(scope, &directory, number, &tell));
            let what = if number == 0 { "holds" } else { "waits" };
            assert_eq!(told.recv().unwrap(), (number, what));
        }
        let places: Vec<_> =
            lines(&directory).unwrap()[&gpu(1)].iter().map(|it| it.place).collect();
        let expected = std::iter::once(Place::Holds).chain((1..8).map(Place::Waits));
        assert_eq!(places, expected.collect::<Vec<_>>());
        for (number, go_on) in go_on.into_iter().enumerate() {
            go_on.send(()).unwrap();
            if number < 7 {
                assert_eq!(told.recv().unwrap(), (number + 1, "holds"));
            }
        }
    });
    assert_eq!(files(&directory), ["queue.lock"]);
}

#[test]
fn whoever_waits_can_be_stopped_and_leaves_nothing() {
    let (_temporary, directory) = directory();
    let _held = take(&directory, &request(&[1], NOW)).unwrap();
    let cancel = Cancel::default();
    let (other, mut tells) = (cancel.clone(), 0);
    let result = take_telling(&directory, &request(&[1], Patience::Forever), &cancel, &mut |_| {
        tells += 1;
        other.cancel();
    });
    assert!(matches!(result, Err(LeaseError::Cancelled)), "{result:?}");
    assert_eq!(tells, 1);
    assert_eq!(files(&directory).len(), 2);
}

#[test]
fn waiting_ends_in_time_and_leaves_nothing() {
    let (_temporary, directory) = directory();
    let _held = take(&directory, &request(&[1], NOW)).unwrap();
    assert_busy(take(&directory, &request(&[1], Patience::For(Duration::from_millis(30)))));
    assert_eq!(files(&directory).len(), 2);
}

#[test]
fn several_gpus_are_had_together_or_not_at_all() {
    let (_temporary, directory) = directory();
    let both = take(&directory, &request(&[2, 1], NOW)).unwrap();
    assert_eq!(both.gpus(), [gpu(2), gpu(1)]);
    assert_busy(take(&directory, &request(&[1], NOW)));
    drop(both);
    let _one = take(&directory, &request(&[1], NOW)).unwrap();
    assert_busy(take(&directory, &request(&[1, 2], NOW)));
    drop(take(&directory, &request(&[2], NOW)).unwrap());
}

#[test]
fn of_twins_the_free_one_is_taken() {
    let (_temporary, directory) = directory();
    let either = Request { count: 1, ..request(&[1, 2], NOW) };
    let first = take(&directory, &either).unwrap();
    let second = take(&directory, &either).unwrap();
    assert_eq!((first.gpus(), second.gpus()), (&[gpu(1)][..], &[gpu(2)][..]));
    assert_busy(take(&directory, &either));
    drop(first);
    assert_eq!(take(&directory, &either).unwrap().gpus(), [gpu(1)]);
}

#[test]
fn a_program_that_holds_a_gpu_holds_it_again_inside() {
    let (_temporary, directory) = directory();
    let lease = take(&directory, &request(&[1], NOW)).unwrap();
    let outer = Outer::find(&directory, &lease.variable());
    assert_eq!(outer.as_ref().unwrap().gpus().collect::<Vec<_>>(), [&gpu(1)]);
    let inside = |gpus: &[u8]| Request { outer: outer.clone(), ..request(gpus, Patience::Forever) };

    let nested = take(&directory, &inside(&[1])).unwrap();
    assert!(nested.is_nested() && nested.descriptors().next().is_none());
    assert_eq!(nested.variable(), lease.variable());
    let more = take(&directory, &inside(&[1, 2])).unwrap();
    assert_eq!((more.gpus(), more.is_nested()), (&[gpu(1), gpu(2)][..], false));
    drop(nested);
    assert_busy(take(&directory, &request(&[1], NOW)));

    // Waiting inside could be a circle.
    assert!(matches!(take(&directory, &inside(&[2])), Err(LeaseError::BusyInside { .. })));
    drop(more);
    let value = lease.variable();
    drop(lease);
    assert_eq!(Outer::find(&directory, &value), None);

    // The next ticket has the same number, and is somebody else's.
    thread::sleep(Duration::from_millis(2));
    let _next = take(&directory, &request(&[1], NOW)).unwrap();
    assert_eq!(Outer::find(&directory, &value), None);
}

#[test]
fn a_value_that_means_nothing_here_is_no_outer_lease() {
    let (_temporary, directory) = directory();
    let (_other, elsewhere) = self::directory();
    let lease = take(&elsewhere, &request(&[1], NOW)).unwrap();
    for value in [lease.variable().as_str(), "", "1::", "2:x:/", "2:../../etc/passwd:/"] {
        assert_eq!(Outer::find(&directory, value), None, "{value}");
    }
}

#[test]
fn a_dead_holders_processes_are_waited_for() {
    let (_temporary, directory) = directory();
    let worker = ProcessId { pid: 4250, started: 7 };
    let mut lease = take(&directory, &request(&[1], NOW)).unwrap();
    lease.note_process(worker);
    lease.note_process(worker);
    // As if it were killed.
    lease.leave();
    let own = ProcessId::this().unwrap();

    let mut told = Vec::new();
    let mut asked = Vec::new();
    let mut lease = acquire(
        &directory,
        &request(&[1], Patience::Forever),
        &mut Hooks {
            tell: &mut |it| told.push(it.what.clone()),
            clear: &mut |_, earlier| {
                asked.push(earlier.to_vec());
                if asked.len() < 3 { vec![worker] } else { Vec::new() }
            },
            cancel: &Cancel::default(),
            clock: SystemTime::now,
        },
    )
    .unwrap();
    let expected = if own < worker { vec![own, worker] } else { vec![worker, own] };
    assert_eq!(asked, vec![expected; 3]);
    assert_eq!(told, vec![WaitsFor::Leftovers(vec![worker]); 2]);
    assert_eq!(files(&directory).len(), 3, "the dead ticket is nothing that a lease waits for");
    lease.tidy();
    assert_eq!(files(&directory).len(), 2, "the dead ticket was removed");
    drop(lease);
}

#[test]
fn dead_tickets_are_removed_at_the_end_if_nobody_did_before() {
    let (_temporary, directory) = directory();
    take(&directory, &request(&[1], NOW)).unwrap().leave();
    drop(take(&directory, &request(&[1], NOW)).unwrap());
    assert_eq!(files(&directory), ["queue.lock"]);
}

#[test]
fn processes_of_a_holder_that_dies_while_it_is_waited_for_are_waited_for_too() {
    let (_temporary, directory) = directory();
    let worker = ProcessId { pid: 4250, started: 7 };
    let mut first = Some(take(&directory, &request(&[1], NOW)).unwrap());
    first.as_mut().unwrap().note_process(worker);
    let mut asked = Vec::new();
    let lease = acquire(
        &directory,
        &request(&[1], Patience::Forever),
        &mut Hooks {
            // As if it were killed, as soon as it is waited for.
            tell: &mut |_| first.take().into_iter().for_each(Lease::leave),
            clear: &mut |_, earlier| {
                asked.extend_from_slice(earlier);
                Vec::new()
            },
            cancel: &Cancel::default(),
            clock: SystemTime::now,
        },
    )
    .unwrap();
    assert!(asked.contains(&worker), "{asked:?}");
    drop(lease);
}

#[test]
fn files_that_are_no_live_tickets_stop_nobody() {
    let (_temporary, directory) = directory();
    let at = |end: &str| directory.path().join(format!("{}.{end}", gpu(1)));
    fs::write(at("1.1"), "").unwrap();
    fs::write(at("2.1"), vec![b'x'; 1 << 20]).unwrap();
    fs::write(at("18446744073709551615.1"), "{\"version\":1}\n{\"held\":1}\n").unwrap();
    symlink("/proc/self/environ", at("3.1")).unwrap();
    fs::create_dir(at("4.1")).unwrap();
    let pipe = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, at("5.1"), pipe, mode, 0).unwrap();
    let lease = take(&directory, &request(&[1], NOW)).unwrap();
    assert_eq!(lines(&directory).unwrap()[&gpu(1)].len(), 1);
    drop(lease);
}

#[test]
fn a_live_ticket_with_the_last_number_is_told() {
    let (_temporary, directory) = directory();
    let path = directory.path().join(format!("{}.{}.1", gpu(1), u64::MAX));
    let file = fs::File::create(path).unwrap();
    file.lock().unwrap();
    let error = take(&directory, &request(&[1], NOW)).unwrap_err();
    assert!(error.to_string().contains("the last number"), "{error}");
}

#[test]
fn who_keeps_the_queue_lock_is_named() {
    let (_temporary, directory) = directory();
    drop(take(&directory, &request(&[1], NOW)).unwrap());
    let file = fs::File::open(directory.path().join("queue.lock")).unwrap();
    file.lock().unwrap();
    let cancel = Cancel::default();
    let mut told = None;
    let result =
        take_telling(&directory, &request(&[1], Patience::Forever), &cancel.clone(), &mut |it| {
            told = Some(it.what.clone());
            cancel.cancel();
        });
    assert!(matches!(result, Err(LeaseError::Cancelled)), "{result:?}");
    assert_eq!(told, Some(WaitsFor::QueueLock(Some(std::process::id()))));
}

#[test]
fn a_ticket_can_be_read_by_everybody_and_written_by_its_owner() {
    let (_temporary, directory) = directory();
    let _lease = take(&directory, &request(&[1], NOW)).unwrap();
    for name in files(&directory) {
        let mode = fs::metadata(directory.path().join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644, "{name}");
    }
}

#[test]
fn a_relative_path_is_the_same_directory_for_a_program_that_stands_elsewhere() {
    let directory = Directory::open(Path::new(".")).unwrap();
    assert!(directory.path().is_absolute());
}

#[test]
fn a_lease_that_is_entrusted_is_not_given_back_before_it_is_taken_back() {
    let (_temporary, directory) = directory();
    let mut lease = take(&directory, &request(&[1], NOW)).unwrap();
    let inherited = lease.descriptors().next().unwrap().try_clone_to_owned().unwrap();
    lease.entrust();
    drop(lease);
    assert_busy(take(&directory, &request(&[1], NOW)));
    drop(inherited);
    let mut lease = take(&directory, &request(&[1], NOW)).unwrap();
    let _inherited = lease.descriptors().next().unwrap().try_clone_to_owned().unwrap();
    lease.entrust();
    lease.take_back();
    drop(lease);
    take(&directory, &request(&[1], NOW)).unwrap();
}
