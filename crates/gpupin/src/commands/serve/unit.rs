use std::{ffi::OsString, path::Path};

/// A unit that runs this program with these arguments, less the one that asks for it.
///
/// It starts in `/`, so that relative paths are refused: they would mean something else there.
pub(super) fn text(arguments: impl Iterator<Item = OsString>) -> Result<String, String> {
    let program = std::env::current_exe()
        .map_err(|error| format!("failed to tell where this program lies: {error}"))?;
    let arguments = arguments.filter(|it| it != "--print-unit");
    let words = std::iter::once(program.into_os_string()).chain(arguments);
    let words = words.map(|it| {
        let value = it.to_str().map_or("", |it| it.split_once('=').map_or(it, |it| it.1));
        if Path::new(value).is_relative() && Path::new(value).exists() {
            return Err(format!("`{value}` is relative: a unit does not start in this directory"));
        }
        word(&it)
    });
    let words = words.collect::<Result<Vec<_>, _>>()?;
    Ok(TEMPLATE.replace("@COMMAND@", &words.join(" ")))
}

/// A word as systemd reads it, see "Command lines" in systemd.service(5).
fn word(word: &OsString) -> Result<String, String> {
    let text = word
        .to_str()
        .filter(|it| !it.chars().any(char::is_control))
        .ok_or_else(|| format!("a unit cannot say `{}`", word.display()))?;
    let text =
        text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "/._-=:[]@+,%$".contains(it);
    Ok(if !text.is_empty() && text.chars().all(is_plain) { text } else { format!("\"{text}\"") })
}

const TEMPLATE: &str = "\
[Unit]
Description=gpupin: what every GPU does now
After=network.target nvidia-persistenced.service

[Service]
Type=exec
ExecStart=@COMMAND@
Restart=on-failure
RestartSec=5

# A user that exists only while it runs, sees everything that all users see, and can change nothing but its history. Programs' arguments are readable
# to all users, their working directories are not: of which project a program is stays unknown. A user named here instead (`User=`) sees
# the projects of programs of its own.
DynamicUser=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077

# Only this machine is talked to: over TCP with who asks, over a socket with the driver's daemon.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
IPAddressDeny=any
IPAddressAllow=localhost

# The driver's devices are needed.
PrivateDevices=no

# Leases that all users share, if the administrator made such a directory. Of others nothing is known here.
ReadWritePaths=-/run/gpupin -/var/lib/gpupin

# What is kept of the past lies in /var/lib/gpupin-history/gpupin; `gpupin history info --history FILE` reads it, as root.
StateDirectory=gpupin-history
StateDirectoryMode=0700
Environment=XDG_STATE_HOME=/var/lib/gpupin-history

[Install]
WantedBy=multi-user.target
";

#[cfg(test)]
mod tests {
    use super::word;

    #[track_caller]
    fn check(given: &str, expected: &str) {
        assert_eq!(word(&given.into()).unwrap(), expected);
    }

    #[test]
    fn a_word_means_to_systemd_what_it_meant_to_the_shell() {
        check("--listen=[::1]:9876", "--listen=[::1]:9876");
        check("/home/a b/gpupin", "\"/home/a b/gpupin\"");
        check("100%", "100%%");
        check("$HOME", "$$HOME");
        check("a\"b\\c", "\"a\\\"b\\\\c\"");
        check("", "\"\"");
        check(";", "\";\"");
        assert!(word(&"a\nb".into()).is_err());
    }
}
