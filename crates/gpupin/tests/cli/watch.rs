//! `gpupin watch`, on a terminal and without one.

use crate::{
    run::{PINNED, project, terminal::Shell},
    sandbox::Sandbox,
};

#[test]
fn the_view_shows_the_machine_ends_a_process_when_told_and_leaves_the_terminal_as_it_was() {
    let mut shell = Shell::start();
    shell.write("stty cols 100 rows 30; stty -g > before\n");
    shell.expect("> ");
    // Somebody who is on the GPU, without a lease.
    shell.write(&format!(
        "sh use.sh {PINNED} 600 & sleep 0.3; $G watch --machine state --color never\n"
    ));
    // Only what changes is drawn, and blanks are jumped over: one word at a time.
    shell.expect("right");
    shell.write("j");
    shell.write("x");
    shell.expect("K:");
    shell.write("n");
    shell.expect("nothing");
    shell.write("x");
    shell.expect("K:");
    shell.write("y");
    shell.expect("asked");
    shell.write("q");
    shell.expect("> ");
    shell
        .write("stty -g > after; cmp before after && echo un\"\"changed; wait; echo co\"\"de-$?\n");
    shell.expect("unchanged");
    shell.expect("code-0");
    // A signal leaves it as it was too.
    shell.write("$G watch --machine state & sleep 1; kill %1; wait %1; stty -g > after; cmp before after && echo sa\"\"me\n");
    shell.expect("same");
}

#[test]
fn without_a_terminal_it_looks_once() {
    let sandbox = project();
    let args = ["watch", "--machine", "state"];
    let refused = sandbox.gpupin(&args);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("`--once` prints what is seen now"), "{refused:?}");
    let shown = sandbox.gpupin(&[&args[..], &["--once"]].concat());
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.out.contains("everything here is simulated"), "{shown:?}");
    let json = sandbox.gpupin(&[&args[..], &["--once", "--output-format", "json"]].concat()).json();
    assert_eq!(json["machine"]["kind"], "simulated");
    assert_eq!(json["machine"]["gpus"][1]["standing"], "meant");
    assert_eq!(json["leases"], serde_json::json!([]));
}

#[test]
fn a_machine_that_does_not_answer_is_a_gap_and_a_failure() {
    let scene = include_str!("../../../../scenes/mixed.toml");
    let fault = "[[fault]]\nfunction = 'nvmlDeviceGetCount'\nreturn = 'unknown'\n";
    let sandbox = Sandbox::new().file("scene.toml", format!("{scene}\n{fault}"));
    let shown = sandbox.gpupin(&["watch", "--once", "--machine", "scene.toml"]);
    assert_eq!(shown.code, 2, "{shown:?}");
    assert!(shown.out.contains("the machine does not answer"), "{shown:?}");
}
