use super::check;

#[test]
fn every_way_of_setting_a_variable_counts() {
    check(
        r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
os.environ.update({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, CUDA_VISIBLE_DEVICES="0")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "2")
os.putenv("CUDA_VISIBLE_DEVICES", "3")
os.environ |= {"CUDA_VISIBLE_DEVICES": "4"}
"#,
        r#"
        set CUDA_VISIBLE_DEVICES = "1"
        set CUDA_DEVICE_ORDER = "PCI_BUS_ID"
        set CUDA_VISIBLE_DEVICES = "0"
        default CUDA_VISIBLE_DEVICES = "2"
        putenv CUDA_VISIBLE_DEVICES = "3"
        set CUDA_VISIBLE_DEVICES = "4"
        "#,
    );
}

#[test]
fn every_way_of_removing_a_variable_counts() {
    check(
        r#"
import os
del os.environ["CUDA_VISIBLE_DEVICES"]
os.environ.pop("CUDA_VISIBLE_DEVICES", None)
os.unsetenv("CUDA_VISIBLE_DEVICES")
os.environ.clear()
os.environ = {"A": "1"}
os.environ = dict(os.environ, B="2")
"#,
        r#"
        remove CUDA_VISIBLE_DEVICES
        remove CUDA_VISIBLE_DEVICES
        remove CUDA_VISIBLE_DEVICES
        replace environment
        replace environment A="1"
        replace environment + B="2"
        "#,
    );
}

#[test]
fn aliases_of_os_and_environ_are_followed() {
    check(
        r#"
import os as o
from os import environ as env, putenv as put
o.environ["A"] = "1"
env["B"] = "2"
put("C", "3")
e = env
e["D"] = "4"
"#,
        r#"
        set A = "1"
        set B = "2"
        putenv C = "3"
        set D = "4"
        "#,
    );
}

#[test]
fn what_is_no_environment_is_left_alone() {
    check(
        r#"
import config
config.environ["CUDA_VISIBLE_DEVICES"] = "1"
environ["CUDA_VISIBLE_DEVICES"] = "1"
settings = {}
settings["CUDA_VISIBLE_DEVICES"] = "1"
"#,
        "module config",
    );
}

#[test]
fn tests_set_variables_for_a_while() {
    check(
        r#"
import os
from unittest import mock
from unittest.mock import patch

def test_a(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.setitem(os.environ, "X", "1")
    with mock.patch.dict(os.environ, {"CUDA_VISIBLE_DEVICES": "0"}, clear=True):
        pass
    with patch.dict("os.environ", CUDA_VISIBLE_DEVICES="2"):
        pass
"#,
        r#"
        def test_a:
          set for now CUDA_VISIBLE_DEVICES = "1"
          remove for now CUDA_DEVICE_ORDER
          set for now X = "1"
          set for now CUDA_VISIBLE_DEVICES = "0"
          set for now CUDA_VISIBLE_DEVICES = "2"
        "#,
    );
}

#[test]
fn a_file_of_variables_is_loaded() {
    check(
        r#"
from dotenv import load_dotenv
import dotenv
load_dotenv()
dotenv.load_dotenv("prod.env", override=True)
"#,
        r"
        module dotenv (load_dotenv)
        module dotenv
        load default
        load prod.env over
        ",
    );
}

#[test]
fn values_that_are_no_text_are_kept() {
    check(
        r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = 1
os.environ["CUDA_VISIBLE_DEVICES"] = pick()
"#,
        r"
        set CUDA_VISIBLE_DEVICES = 1
        set CUDA_VISIBLE_DEVICES = ?
        ",
    );
}

#[test]
fn a_loop_over_literal_items_sets_each() {
    check(
        r#"
import os
PINS = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1"}
for name, value in PINS.items():
    os.environ[name] = value
"#,
        r#"
        loop
          set CUDA_DEVICE_ORDER = "PCI_BUS_ID"
          set CUDA_VISIBLE_DEVICES = "1"
        "#,
    );
}
