use std::sync::Arc;

use expect_test::expect;
use gpupin_monitor::moment::Moment;
use gpupin_run::process::ProcessId;
use ratatui::{
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::Rect,
    style::Color,
};

use super::{
    Action, App, Victim,
    view::{Means, draw, text},
};

const PLAIN: Means = Means { has_colour: false, is_unicode: true };

fn moment() -> Moment {
    serde_json::from_str(include_str!("../../../../wire/moment.json")).unwrap()
}

fn app() -> App {
    let mut app = App::default();
    app.hear(&Arc::new(moment()));
    app
}

fn press(app: &mut App, keys: &str) -> Action {
    let mut last = Action::None;
    for key in keys.chars() {
        let code = match key {
            '↓' => KeyCode::Down,
            '⏎' => KeyCode::Enter,
            '⎋' => KeyCode::Esc,
            it => KeyCode::Char(it),
        };
        last = app.key(KeyEvent::new(code, KeyModifiers::NONE));
    }
    last
}

fn drawn(app: &App, means: Means, width: u16, height: u16) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw(app, means, area, &mut buffer);
    buffer
}

fn lines(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let line: String = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[test]
fn everything_fits_on_the_smallest_terminal() {
    let expected = expect![[r#"
            workstation · driver 580.65.06 · everything here is simulated       19:16:33 UTC
            0  RTX 5060 Ti       forbidden ███░░░░░ 5.6 GiB of 16 GiB  61 °C  ? of 180 W
               busy  55 % ▅
            1  RTX 3090          meant     ███████░ 20 GiB of 24 GiB  71 °C  312 of 350 W
               busy  95 % █
            alerts
            ! RTX 3090 reported Xid 13
            ! `python serve.py --port 8000` (pid 4242) works on RTX 5060 Ti, which its proj…
              … 2 more
            GPU       PID USER       MEMORY↓   BUSY  PLACE      LEASE  COMMAND
            /home/ada/assistant (3)
            1        4245 ada         18 GiB   90 %  right      held   python train.py --ep…
            0        4242 ada          4 GiB   35 %  WRONG      none   python serve.py --po…
            0        4243 ada        1.5 GiB   20 %  WRONG      none   python transcribe.py
            /home/ada/bench (1)
            1        4246 ada          2 GiB    5 %  undeclared none   python evaluate.py
            no project known (2)
            0        4244 root       120 MiB    0 %  unmanaged  none   Xorg :0
            0          77 ?                ?      ?  unmanaged  ?      (of another PID name…
            leases
            RTX 3090 is held by `python train.py --epochs 10` for 60 s
            1. for RTX 3090: `python -m assistant.tts` waits for 21 s

            ? help  / filter  m b g p sort  arrows choose  x end  space pause  q leave
        "#]];
    expected.assert_eq(&lines(&drawn(&app(), PLAIN, 80, 24)));
}

#[test]
fn a_filter_leaves_what_has_the_text_in_it() {
    let shown = |keys: &str| {
        let mut app = app();
        press(&mut app, keys);
        text(&app, PLAIN, 80)
    };
    let filtered = shown("/TRAIN⏎");
    assert!(filtered.contains("/home/ada/assistant (1)\n1        4245 ada"), "{filtered}");
    assert!(!filtered.contains("4246 ada"), "{filtered}");
    let nothing = shown("/nothing⏎");
    assert!(nothing.contains("no process has `nothing` in it"), "{nothing}");
    let mut app = app();
    press(&mut app, "/train⏎");
    assert_eq!(app.processes().len(), 1);
    assert_eq!(press(&mut app, "⎋"), Action::None, "the first Esc shows all again");
    assert_eq!(app.processes().len(), 6);
    assert_eq!(press(&mut app, "⎋"), Action::Leave);
}

#[test]
fn processes_are_sorted_within_their_project() {
    let sorted = |keys: &str| {
        let mut app = app();
        press(&mut app, keys);
        app.processes().iter().map(|it| it.1.pid).collect::<Vec<_>>()
    };
    assert_eq!(sorted("m"), [4245, 4242, 4243, 4246, 4244, 77]);
    assert_eq!(sorted("b"), [4245, 4242, 4243, 4246, 4244, 77]);
    assert_eq!(sorted("g"), [4242, 4243, 4245, 4246, 77, 4244]);
    assert_eq!(sorted("p"), [4242, 4243, 4245, 4246, 77, 4244]);
}

#[test]
fn a_process_is_ended_only_after_a_question() {
    let victim = Victim {
        id: ProcessId { pid: 4245, started: 81787 },
        command: "python train.py --epochs 10".to_owned(),
    };
    let after = |keys: &str| press(&mut app(), keys);
    assert_eq!(after("x"), Action::None, "nothing is chosen");
    assert_eq!(after("xy"), Action::None);
    assert_eq!(after("↓x"), Action::None);
    assert_eq!(after("↓xy"), Action::End { victim: victim.clone(), force: false });
    assert_eq!(after("↓xK"), Action::End { victim, force: true });
    for key in ["n", "⏎", "⎋", "x", "Y", "k", "q"] {
        assert_eq!(after(&format!("↓x{key}")), Action::None, "{key}");
    }
    let mut app = app();
    press(&mut app, "↓x");
    assert!(
        lines(&drawn(&app, PLAIN, 80, 24))
            .contains("end `python train.py --epochs 10` (pid 4245)?")
    );
    // The last one is of another namespace, where the number is somebody else's.
    press(&mut app, "n↓↓↓↓↓↓↓x");
    assert!(lines(&drawn(&app, PLAIN, 80, 24)).contains("cannot be ended from here"));
}

#[test]
fn a_gap_is_blank_in_the_chart_and_told() {
    let mut app = app();
    let mut gap = moment();
    gap.machine = None;
    gap.gap = Some("the driver did not answer".to_owned());
    app.hear(&Arc::new(gap));
    let shown = lines(&drawn(&app, PLAIN, 80, 24));
    assert!(shown.contains("! the machine does not answer: the driver did not answer"), "{shown}");
    app.hear(&Arc::new(moment()));
    let shown = lines(&drawn(&app, PLAIN, 80, 24));
    assert!(shown.contains("busy  95 % █ █\n"), "{shown}");
    let mut idle = moment();
    idle.machine.as_mut().unwrap().gpus[1].utilization = Some(0);
    app.hear(&Arc::new(idle));
    let shown = lines(&drawn(&app, PLAIN, 80, 24));
    assert!(shown.contains("busy   0 % █ █▁\n"), "idle is no gap: {shown}");
}

#[test]
fn a_silent_list_is_never_an_idle_gpu() {
    let mut moment = moment();
    let gpus = &mut moment.machine.as_mut().unwrap().gpus;
    for gpu in gpus {
        gpu.processes.clear();
        gpu.silent.insert("compute_processes".to_owned(), "no permission".to_owned());
    }
    let mut app = App::default();
    app.hear(&Arc::new(moment));
    let shown = text(&app, PLAIN, 100);
    assert!(shown.contains("the driver does not say who is on RTX 3090: no permission"), "{shown}");
    assert!(!shown.contains("no process is listed"), "{shown}");
}

#[test]
fn the_picture_can_be_held_still() {
    let mut app = app();
    press(&mut app, " ");
    let mut next = moment();
    next.at += 60_000;
    app.hear(&Arc::new(next.clone()));
    assert_eq!(app.moment.as_ref().unwrap().at, moment().at);
    press(&mut app, " ");
    app.hear(&Arc::new(next.clone()));
    assert_eq!(app.moment.as_ref().unwrap().at, next.at);
}

#[test]
fn nothing_is_told_by_colour_alone_and_ascii_is_enough() {
    let app = app();
    let coloured = drawn(&app, Means { has_colour: true, ..PLAIN }, 80, 24);
    let plain = drawn(&app, PLAIN, 80, 24);
    assert_eq!(lines(&coloured), lines(&plain));
    let has_colour = |it: &Buffer| it.content.iter().any(|it| it.fg != Color::Reset);
    assert!(has_colour(&coloured) && !has_colour(&plain));
    let ascii = lines(&drawn(&app, Means { is_unicode: false, ..PLAIN }, 80, 24));
    let graphic = |it: char| !it.is_ascii() && !"°·…".contains(it);
    assert!(!ascii.contains(graphic), "{ascii}");
}

#[test]
fn no_size_of_terminal_is_too_small() {
    let mut app = app();
    for keys in ["", "↓", "x", "n", "?"] {
        press(&mut app, keys);
        for (width, height) in [(1, 1), (2, 2), (10, 3), (40, 8), (80, 24), (300, 100)] {
            drawn(&app, PLAIN, width, height);
        }
    }
}
