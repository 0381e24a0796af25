use super::check;

#[test]
fn children_get_an_environment() {
    check(
        r#"
import os, sys, subprocess
subprocess.run(["python", "train.py"])
subprocess.run([sys.executable, "-m", "app.serve"], env={**os.environ, "CUDA_VISIBLE_DEVICES": "1"})
subprocess.Popen(["python", "a.py"], env={"PATH": "/bin"})
subprocess.check_call(["python", "b.py"], env=dict(os.environ, CUDA_VISIBLE_DEVICES="2"))
env = os.environ.copy()
env["CUDA_VISIBLE_DEVICES"] = "3"
env.update(CUDA_DEVICE_ORDER="PCI_BUS_ID")
env.pop("HOME")
subprocess.run(["python", "c.py"], env=env)
subprocess.run(["python", "d.py"], env=os.environ | {"CUDA_VISIBLE_DEVICES": "4"})
os.execvpe("python", ["python", "e.py"], env)
subprocess.run(command)
"#,
        r#"
        start PythonFile("train.py")
        start PythonModule("app.serve") + CUDA_VISIBLE_DEVICES="1"
        start PythonFile("a.py") only PATH="/bin"
        start PythonFile("b.py") + CUDA_VISIBLE_DEVICES="2"
        start PythonFile("c.py") without HOME + CUDA_VISIBLE_DEVICES="3" CUDA_DEVICE_ORDER="PCI_BUS_ID"
        start PythonFile("d.py") + CUDA_VISIBLE_DEVICES="4"
        start PythonFile("e.py") without HOME + CUDA_VISIBLE_DEVICES="3" CUDA_DEVICE_ORDER="PCI_BUS_ID"
        start Unknown
        "#,
    );
}

#[test]
fn constant_command_lines_are_read_as_shell() {
    check(
        r#"
import os, subprocess
os.system("CUDA_VISIBLE_DEVICES=1 python train.py")
subprocess.run("python serve.py", shell=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": "2"})
os.system(command)
"#,
        r#"
        scope
          start PythonFile("train.py") + CUDA_VISIBLE_DEVICES="1"
        scope
          start PythonFile("serve.py") + CUDA_VISIBLE_DEVICES="2"
        start Unknown
        "#,
    );
}

#[test]
fn an_environment_that_is_made_of_itself_ends() {
    check(
        r#"
import subprocess
env = {**env, "X": "1"}
subprocess.run(["python", "a.py"], env=env)
"#,
        r#"start PythonFile("a.py") unknown environment"#,
    );
}

#[test]
fn paths_beside_the_file_are_followed() {
    check(
        r#"
import os, sys, subprocess
from pathlib import Path
HERE = Path(__file__).resolve().parent
subprocess.run([sys.executable, __file__])
subprocess.run([sys.executable, os.path.join(os.path.dirname(__file__), "a.py")])
subprocess.run([sys.executable, str(HERE / "tools" / "b.py")])
subprocess.run([sys.executable, HERE.parent / "c.py"])
command = [sys.executable, str(HERE / "d.py")]
subprocess.run(command)
"#,
        r#"
        start PythonFile("app/main.py")
        start PythonFile("app/a.py")
        start PythonFile("app/tools/b.py")
        start PythonFile("c.py")
        start PythonFile("app/d.py")
        "#,
    );
}
