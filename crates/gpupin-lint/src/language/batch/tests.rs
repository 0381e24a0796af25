use crate::language::tests::check;

#[test]
fn set_without_a_value_removes_the_variable() {
    check(
        "start.bat",
        "@echo off\r\nREM set CUDA_VISIBLE_DEVICES=3\r\n:: set CUDA_VISIBLE_DEVICES=4\r\nset CUDA_VISIBLE_DEVICES=1\r\nset \"A=x y\" ignored\r\nset B=\"z\"\r\nSET CUDA_VISIBLE_DEVICES=\r\nset C=%GPU%\r\nsetx D 2 /m\r\nset /a E=1+1\r\n",
        r#"
        set CUDA_VISIBLE_DEVICES = "1" Assign Process
        set A = "x y" Assign Process
        set B = "\"z\"" Assign Process
        unset CUDA_VISIBLE_DEVICES
        set C = $GPU‹%GPU%› Assign Process
        set D = "2" Persistent Process
        "#,
    );
}

#[test]
fn programs_are_started() {
    check(
        "start.cmd",
        "cd /d %~dp0\r\ncall venv\\Scripts\\activate.bat\r\nset CUDA_VISIBLE_DEVICES=1 && python scripts\\train.py ^\r\n  --device cuda:1\r\nstart \"tts\" /b python -m tts\r\n\"%~dp0x.py\" a\r\necho python no.py\r\npause\r\n",
        r#"
        start Script("venv/Scripts/activate.bat")
        set CUDA_VISIBLE_DEVICES = "1" Assign Process
        start PythonFile("scripts/train.py")
        choose --device 1 Ordinal Choose
        start PythonModule("tts")
        start PythonFile("x.py")
        "#,
    );
}

#[test]
fn branches_loops_and_scopes_keep_their_order() {
    check(
        "a.bat",
        "if not defined X set X=1\r\nif \"%Y%\"==\"\" (\r\n  set Y=1\r\n) else (\r\n  set Y=2\r\n)\r\nfor %%i in (0 1) do (\r\n  set Z=%%i\r\n  python z.py\r\n)\r\nsetlocal\r\nset A=1\r\nendlocal\r\nif exist x (set B=1)\r\nexit /b 0\r\n",
        r#"
        if X is set
        or
          set X = "1" Assign Process
        if Y is set
          set Y = "2" Assign Process
        or
          set Y = "1" Assign Process
        loop
          set Z = Unknown‹%%i› Assign Process
          start PythonFile("z.py")
        scope
          set A = "1" Assign Process
        if ?
          set B = "1" Assign Process
        or
        leave Exit
        "#,
    );
}

#[test]
fn comments_suppress() {
    check(
        "a.bat",
        "REM gpupin: ignore[GP103] why\r\nset X=1\r\nset Y=2 & rem gpupin: ignore[GP102]\r\n",
        r#"
        set X = "1" Assign Process
        set Y = "2" Assign Process
        ignore GP103 in ‹set X=1›
        ignore GP102 in ‹set Y=2 & rem gpupin: ignore[GP102]›
        "#,
    );
}
