use super::{check, check_at};

#[test]
fn imports_keep_their_order_and_their_place() {
    check_at(
        "app/tts/engine.py",
        r"
import torch
import os, numpy as np
from . import config
from .models import load
from ..core.gpu import pick
import app.settings as s

def lazy():
    import faster_whisper
",
        r"
        library torch
        module torch
        module numpy
        module app/tts/: (config)
        module app/tts/:models (load)
        module app/:core.gpu (pick)
        module app.settings
        def lazy:
          library faster_whisper
          module faster_whisper
        ",
    );
}

#[test]
fn branches_loops_and_attempts_become_steps() {
    check(
        r"
import a
try:
    import b
except ImportError:
    import c
else:
    import d
finally:
    import e
if a.x:
    import f
elif a.y:
    import g
else:
    import h
while a.z:
    import i
for x in y:
    import j
else:
    import k
with open('x') as f:
    import l
match a:
    case 1:
        import m
    case _:
        import n
",
        r"
        module a
        try
          module b
        except
          module c
        module d
        module e
        if
          module f
        else
          module g
        else
          module h
        loop
          module i
        loop
          module j
        module k
        module l
        if
          module m
        else
          module n
        ",
    );
}

#[test]
fn what_never_runs_is_dropped_and_what_always_runs_is_plain() {
    check(
        r#"
import typing
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import a
if typing.TYPE_CHECKING:
    import b
else:
    import c
if not TYPE_CHECKING:
    import d
if False:
    import e
if __name__ == "__main__":
    import f
"#,
        r"
        module c
        module d
        main
          module f
        ",
    );
}

#[test]
fn calls_name_what_they_run() {
    check(
        r#"
import helpers
from helpers import start as go
from functools import partial

class Base:
    def load(self): run()

class Engine(Base):
    def __init__(self, device):
        self.device = device
        self.tokenizer = Tokenizer()
        self.load()

    def speak(self):
        super().load()
        self.tokenizer.encode()

    def __call__(self): self.speak()

class Tokenizer:
    def encode(self): helpers.encode()

def run():
    engine = Engine("cuda")
    engine.speak()
    engine()
    Engine("x").speak()
    helpers.prepare()
    go()
    partial(go, 1)()

async def main(engine: Engine):
    await engine.speak()
"#,
        r"
        module helpers
        module helpers (start)
        def Base.load:
          call here:run
        def Engine:
          call here:Engine.__init__
        def Engine.__call__:
          call here:Engine.speak
        def Engine.__init__:
          call here:Tokenizer
          call here:Engine.load
        def Engine.speak:
          call here:Base.load
          call here:Tokenizer.encode
        def Tokenizer.encode:
          call helpers.encode
        def main:
          call here:Engine.speak
        def run:
          call here:Engine
          call here:Engine.speak
          call here:Engine.__call__
          call here:Engine
          call here:Engine.speak
          call helpers.prepare
          call helpers.start
          call helpers.start
        ",
    );
}

#[test]
fn definitions_run_decorators_defaults_and_class_bodies() {
    check(
        r"
import deco
import setup

@deco.wrap(setup.one())
def f(x=setup.two(), *, y=setup.three()):
    setup.four()

@deco.plain
class C(setup.base()):
    z = setup.five()
    def m(self): setup.six()

g = lambda: setup.seven()
",
        r"
        module deco
        module setup
        call setup.one
        call deco.wrap
        call setup.two
        call setup.three
        call deco.plain
        call setup.base
        call setup.five
        def C.m:
          call setup.six
        def f:
          call setup.four
        ",
    );
}

#[test]
fn arguments_run_before_the_call_they_are_passed_to() {
    check(
        r#"
import torch, app
app.start(torch.cuda.is_available(), device=app.pick())
x = app.a() if app.b() else app.c()
app.d() and app.e()
[app.f(i) for i in app.g()]
"#,
        r"
        library torch
        module torch
        module app
        freeze torch.cuda.is_available()
        call app.pick
        call app.start
        call app.b
        if
          call app.a
        else
          call app.c
        call app.d
        if
          call app.e
        call app.g
        loop
          call app.f
        ",
    );
}

#[test]
fn leaving_is_told_apart() {
    check(
        r#"
import sys, os, app
def a():
    app.x()
    return 1
def b():
    app.x()
    raise ValueError("cuda:1")
def c():
    sys.exit(1)
def d():
    raise SystemExit(2)
def e():
    os._exit(0)
def f():
    exit()
"#,
        r"
        module app
        def a:
          call app.x
          return
        def b:
          call app.x
          raise
        def c:
          exit
        def d:
          exit
        def e:
          exit
        def f:
          exit
        ",
    );
}

#[test]
fn conditions_that_matter_are_recognised() {
    check(
        r#"
import os, sys, torch, app
if "X" in os.environ: app.a()
if "X" not in os.environ: app.b()
if os.getenv("X"): app.c()
if os.environ.get("X") is None: app.d()
if torch.cuda.device_count() > 1: app.e()
if torch.cuda.device_count() < 2: app.f()
if not torch.cuda.is_available(): app.g()
if sys.platform == "win32": app.h()
if app.y > 1: app.i()
"#,
        r#"
        library torch
        module torch
        module app
        if VariableSet("X")
          call app.a
        if VariableSet("X")
        else
          call app.b
        if VariableSet("X")
          call app.c
        if VariableSet("X")
        else
          call app.d
        look count
        if MoreGpusThan(1)
          call app.e
        look count
        if MoreGpusThan(1)
        else
          call app.f
        freeze torch.cuda.is_available()
        look available
        if CudaAvailable
        else
          call app.g
        if Platform("win32")
          call app.h
        if
          call app.i
        "#,
    );
}

#[test]
fn functions_handed_over_run_or_are_called_from_outside() {
    check(
        r#"
import threading, atexit, signal, multiprocessing
from concurrent.futures import ThreadPoolExecutor
import app

def a(): app.a()
def b(): app.b()
def c(): app.c()
def d(): app.d()

threading.Thread(target=a).start()
pool = ThreadPoolExecutor()
pool.submit(b, 1)
atexit.register(c)
multiprocessing.Process(target=d).start()

from fastapi import FastAPI
server = FastAPI()

@server.get("/")
async def route(): app.e()
"#,
        r"
        module app
        call here:a
        call here:b
        module fastapi (FastAPI)
        call fastapi.FastAPI
        call fastapi.FastAPI.get
        def a:
          call app.a
        def b:
          call app.b
        def c (from outside):
          call app.c
        def d (from outside):
          call app.d
        def route (from outside):
          call app.e
        ",
    );
}

#[test]
fn names_that_a_star_import_may_bring_are_left_to_the_project() {
    check(
        r"
from helpers import *
prepare()
print()
",
        r"
        module helpers (*)
        call here:prepare
        ",
    );
}

#[test]
fn two_definitions_of_one_name_are_alternatives() {
    check(
        r"
import app
try:
    import fast
    def go(): app.a()
except ImportError:
    def go(): app.b()
go()
",
        r"
        module app
        try
          module fast
        except
        call here:go
        def go:
          if
            call app.a
          else
            call app.b
        ",
    );
}
