use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use super::{PINNED, evidence, project};
use crate::sandbox::{Outcome, Sandbox};

/// Tries to open each device node, then everything that might undo the isolation, and the nodes again.
const TRY: &str = r#"
open() { (exec 3<>"$1") 2>&1 | sed 's/.*: //' | tail -n 1; }
for node in nvidia0 renamed nvidia1; do echo "$node: $(open root/dev/$node)"; done
{
  umount root/dev/nvidia0; umount -l root/dev
  mknod state/copy c 195 0; mknod root/dev/copy c 195 0
  chmod 777 root/dev/nvidia0; chown 0 root/dev/nvidia0
  ln root/dev/nvidia0 state/link; mv root/dev/nvidia0 state/moved; cp -a root/dev/nvidia0 state/copied
  mount --bind root/dev/nvidia0 state/use
  unshare -m sh -c 'umount root/dev/nvidia0; mount --bind root/dev/nvidia0 state/use'
  unshare -Urm sh -c 'mount --bind root/dev/nvidia0 state/use'
  mount -t tmpfs none root/dev
} 2>/dev/null
export CUDA_VISIBLE_DEVICES=GPU-5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01
for node in nvidia0 renamed; do echo "$node: $(open root/dev/$node)"; done
echo "init: $(open "/proc/1/root$PWD/root/dev/nvidia0")"
for name in state/copy state/link state/moved state/copied; do [ -e $name ] && echo "$name exists"; done
echo y > state/new && mv state/new state/processes/.y && echo > /dev/null && echo "the rest works"
"#;

/// Stand-ins for device nodes: real ones, without a driver behind. `None` where they cannot be made.
fn with_nodes() -> Option<Sandbox> {
    let sandbox = project().file("try.sh", TRY).file("state/use", "");
    let path = sandbox.path();
    fs::create_dir_all(path.join("root/dev")).unwrap();
    for (name, minor) in [("nvidia0", "0"), ("renamed", "0"), ("nvidia1", "1")] {
        let node = path.join("root/dev").join(name);
        let mut made = Command::new("mknod");
        made.args(["-m", "666"]).arg(node).args(["c", "195", minor]);
        if !made.status().is_ok_and(|it| it.success()) {
            return None;
        }
    }
    let everybody = Command::new("chmod").args(["-R", "a+rwX"]).arg(path).status().unwrap();
    assert!(everybody.success());
    // Leases are kept only where nobody else can write.
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(path.join("leases"), mode).unwrap();
    let root = path.join("root").display().to_string();
    Some(sandbox.variable("GPUPIN_SYSROOT", root))
}

fn isolated(sandbox: &Sandbox, uid: &str, script: &[&str]) -> Outcome {
    let mut args = vec!["--reuid", uid, "--regid", uid, "--clear-groups"];
    args.extend([env!("CARGO_BIN_EXE_gpupin"), "run", "--isolate", "--no-lease"]);
    args.extend(["--machine", "state", "--"]);
    args.extend(script);
    sandbox.run("setpriv", "", &args)
}

#[test]
fn nothing_a_program_does_opens_a_hidden_node() {
    for uid in ["0", "65534"] {
        let Some(sandbox) = with_nodes() else { return };
        let outcome = isolated(&sandbox, uid, &["sh", "try.sh"]);
        let expected = "\
nvidia0: Permission denied
renamed: Permission denied
nvidia1: No such device or address
nvidia0: Permission denied
renamed: Permission denied
init: Permission denied
the rest works
";
        assert_eq!(outcome.out, expected, "uid {uid}: {outcome:?}");
    }
}

#[test]
fn the_pinned_gpu_alone_in_reach_is_a_proof() {
    for uid in ["0", "65534"] {
        let Some(sandbox) = with_nodes() else { return };
        let outcome = isolated(&sandbox, uid, &["sh", "use.sh", PINNED, "0.4"]);
        assert!(outcome.err.contains("proved (simulated): it ran on RTX 3090"), "{outcome:?}");
        let evidence = evidence(&sandbox);
        assert_eq!(evidence["verdict"], "proved", "{evidence}");
        // Not every machine has control groups of version 2; then it is said, and counts for nothing.
        let of = |what: &str| evidence["isolation"][what].as_array().unwrap().clone();
        let is_group = |it: &serde_json::Value| it.as_str().unwrap().starts_with("device-cgroup");
        let (refused, achieved) = (of("refused"), of("achieved"));
        assert!(refused.iter().all(is_group), "{evidence}");
        let groups = refused.iter().chain(&achieved).filter(|it| is_group(it)).count();
        assert_eq!(groups, usize::from(uid == "0"), "{evidence}");
        assert_eq!(sandbox.gpupin(&["evidence", "check"]).code, 0);
    }
}

#[test]
fn an_index_counts_the_gpus_that_are_left() {
    let Some(sandbox) = with_nodes() else { return };
    let sandbox = sandbox.file("gpupin.toml", "gpu.name = 'RTX 3090'\npin.as = 'index'\n");
    let print = ["sh", "-c", "echo $CUDA_VISIBLE_DEVICES"];
    assert_eq!(isolated(&sandbox, "0", &print).out, "0\n");
    let outcome = sandbox.gpupin(&[&["run", "--machine", "state", "--"], &print[..]].concat());
    assert_eq!(outcome.out, "1\n", "{outcome:?}");
}

#[test]
fn what_cannot_be_isolated_is_said() {
    let sandbox = project();
    let outcome = sandbox.gpupin(&["run", "--isolate", "--machine", "state", "--", "true"]);
    assert!(outcome.err.contains("warning: isolation: "), "{outcome:?}");
    let evidence = evidence(&sandbox);
    assert_eq!(evidence["gpus"][0]["isolated"], false);
    assert_ne!(evidence["isolation"]["refused"], serde_json::json!([]));
}

#[test]
fn programs_that_do_not_start_are_told_as_ever() {
    let Some(sandbox) = with_nodes() else { return };
    for (program, code) in [("no-such-program", 127), ("/etc/passwd", 126)] {
        assert_eq!(isolated(&sandbox, "0", &[program]).code, code);
    }
}
