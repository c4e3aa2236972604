//! Which programs may be started, and with which words.
//!
//! A shell or an interpreter that is handed its program as an argument makes a list of allowed commands worthless: the
//! one entry `sh -c …` is all commands. So those forms are refused even to the operator, who can name a script instead.

use std::path::{Path, PathBuf};

/// Programs whose argument is another program: the list would say nothing about what runs.
const WRAPPERS: [&str; 17] = [
    "env", "xargs", "sudo", "doas", "su", "nohup", "setsid", "timeout", "nice", "ionice", "stdbuf", "time", "script",
    "watch", "find", "busybox", "parallel",
];
const SHELLS: [&str; 13] =
    ["sh", "bash", "dash", "zsh", "ksh", "mksh", "fish", "csh", "tcsh", "ash", "rbash", "pwsh", "powershell"];
/// Variables that make other programs load code, by their beginning.
const LOADERS: [&str; 5] = ["LD_", "DYLD_", "BASH_FUNC_", "NPM_CONFIG_", "LUA_INIT"];
/// And by their whole name.
const LOADERS_EXACT: [&str; 31] = [
    "BASH_ENV",
    "BASHOPTS",
    "CLASSPATH",
    "DOTNET_STARTUP_HOOKS",
    "ENV",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "IFS",
    "JAVA_OPTIONS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "MALLOC_CHECK_",
    "NODE_EXTRA_CA_CERTS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_REPL_EXTERNAL_MODULE",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "PHP_INI_SCAN_DIR",
    "PROMPT_COMMAND",
    "PS4",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYLIB",
    "RUBYOPT",
    "SHELLOPTS",
];

/// Says why a program may not be started with these arguments.
pub(super) fn refusal(program: &str, args: &[String]) -> Option<String> {
    let own = base(program);
    // A link to a shell is a shell.
    let linked = std::fs::canonicalize(program).ok().map(|path| base(&path.to_string_lossy()));
    [Some(own), linked].into_iter().flatten().find_map(|name| refusal_of(&name, args))
}

fn refusal_of(name: &str, args: &[String]) -> Option<String> {
    let inline = |what: &str| Some(format!("{name} is given its program as the argument {what}"));
    if WRAPPERS.contains(&name) {
        return Some(format!("{name} starts whatever its arguments name"));
    }
    if SHELLS.contains(&name) {
        let script = args.iter().find(|arg| !arg.starts_with(['-', '+']));
        let own = args.iter().take_while(|arg| Some(*arg) != script);
        return match own.into_iter().find(|arg| cluster(arg, "cs") || *arg == "-" || arg.starts_with("-Encoded")) {
            Some(found) => inline(found),
            None if script.is_none() => Some(format!("{name} without a script runs whatever it is sent")),
            None => None,
        };
    }
    let long = |arg: &str, names: &[&str]| {
        let word = arg.split('=').next().unwrap_or_default();
        names.contains(&word)
    };
    let found = match family(name) {
        Family::Node => before_script(args, &[".js", ".mjs", ".cjs", ".ts", ".mts"]).find(|arg| {
            cluster(arg, "epri")
                || long(
                    arg,
                    &[
                        "--eval",
                        "--print",
                        "--require",
                        "--import",
                        "--loader",
                        "--experimental-loader",
                        "--interactive",
                    ],
                )
                || *arg == "-"
                || *arg == "eval"
                || *arg == "repl"
        }),
        Family::Python => before_script(args, &[".py", ".pyz"]).find(|arg| cluster(arg, "ci") || *arg == "-"),
        Family::Other => before_script(args, &[".pl", ".rb", ".php", ".lua", ".awk"])
            .find(|arg| cluster(arg, "eErR") || long(arg, &["--run", "--eval"]) || *arg == "-"),
        Family::Packages => args.iter().map(String::as_str).find(|arg| {
            cluster(arg, "c")
                || long(arg, &["--call", "--shell", "--shell-mode", "--eval", "--node-options", "--script-shell"])
        }),
        Family::None => None,
    };
    found.and_then(inline)
}

/// Says why a variable may not be set.
pub(super) fn refused_variable(name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    let well_formed = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.as_bytes()[0].is_ascii_digit();
    if !well_formed {
        return Some("a variable's name is made of letters, digits and _".to_owned());
    }
    let loads = LOADERS.iter().any(|prefix| upper.starts_with(prefix)) || LOADERS_EXACT.contains(&upper.as_str());
    loads.then(|| format!("{name} makes programs load code that this file does not name"))
}

/// Finds a program: an absolute path as it is, a bare name in PATH.
pub(crate) fn resolve(command: &str) -> Option<PathBuf> {
    let executable = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if command.starts_with('/') {
        let path = PathBuf::from(command);
        return executable(&path).then_some(path);
    }
    let path = std::env::var_os("PATH")?;
    // An entry that is not absolute would depend on the folder that we happen to run in.
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(command)).find(|path| executable(path))
}

enum Family {
    Node,
    Python,
    Other,
    Packages,
    None,
}

fn family(name: &str) -> Family {
    match name {
        "node" | "nodejs" | "deno" | "bun" | "tsx" | "ts-node" => Family::Node,
        "python" | "pypy" | "ipython" => Family::Python,
        "perl" | "ruby" | "php" | "lua" | "luajit" | "awk" | "gawk" | "mawk" | "Rscript" | "osascript" | "tclsh" => {
            Family::Other
        }
        "npx" | "npm" | "pnpm" | "pnpx" | "yarn" | "bunx" | "uvx" | "uv" => Family::Packages,
        _ => Family::None,
    }
}

/// The name of a program without its folder and version: `/usr/bin/python3.12` is `python`.
fn base(program: &str) -> String {
    let name = program.rsplit('/').next().unwrap_or_default();
    let name = name.strip_suffix(".exe").unwrap_or(name);
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    // `npx` is a link to `npx-cli.js`.
    name.strip_suffix("-cli.js").unwrap_or(name).trim_end_matches('-').to_owned()
}

/// Tells whether an argument is one of the short flags `flags`, alone, glued to its value or among others: `-c`, `-lc`, `-cx`.
fn cluster(arg: &str, flags: &str) -> bool {
    let Some(letters) = arg.strip_prefix('-').filter(|rest| !rest.starts_with('-')) else { return false };
    letters.chars().take_while(char::is_ascii_alphabetic).any(|letter| flags.contains(letter))
}

/// The arguments that an interpreter reads itself: those before its script or module.
fn before_script<'a>(args: &'a [String], endings: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let mut module = false;
    args.iter().map(String::as_str).take_while(move |arg| {
        if module {
            return false;
        }
        module = *arg == "-m";
        arg.starts_with('-') || !(arg.contains('/') || endings.iter().any(|ending| arg.ends_with(ending)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> bool {
        let mut words = line.split(' ').map(str::to_owned);
        let program = words.next().unwrap_or_default();
        refusal(&program, &words.collect::<Vec<_>>()).is_some()
    }

    #[test]
    fn what_is_handed_its_program_as_an_argument_is_refused() {
        for line in [
            "sh -c x",
            "/bin/bash -lc x",
            "bash -ec x",
            "bash",
            "zsh -s",
            "dash -",
            "node -e 1",
            "node --eval=1",
            "node -pe 1",
            "node --require ./x.js server.js",
            "nodejs --import x",
            "deno eval 1",
            "python -c 1",
            "python3.12 -Ic 1",
            "/usr/bin/python3 -",
            "npx -c x",
            "npx --call=x",
            "npx -y --call x",
            "npm exec -c x",
            "perl -e 1",
            "ruby -e 1",
            "php -r 1",
            "env sh",
            "sudo ls",
            "xargs ls",
            "busybox sh",
        ] {
            assert!(refused(line), "{line}");
        }
    }

    #[test]
    fn programs_and_scripts_with_arguments_of_their_own_are_not() {
        for line in [
            "/opt/server",
            "my-server -c config.toml",
            "bash /opt/start.sh -c x",
            "node /opt/server.js -e x",
            "node --max-old-space-size=256 server.mjs --eval",
            "python -m server -c config.toml",
            "python3 /opt/server.py -c x",
            "npx -y @modelcontextprotocol/server-memory",
            "uvx mcp-server-git --repository /srv",
        ] {
            assert!(!refused(line), "{line}");
        }
    }

    #[test]
    fn variables_that_load_code_are_refused_in_any_case() {
        for name in [
            "LD_PRELOAD",
            "ld_library_path",
            "NODE_OPTIONS",
            "PYTHONSTARTUP",
            "BASH_ENV",
            "npm_config_node_options",
            "A=B",
            "1A",
            "",
        ] {
            assert!(refused_variable(name).is_some(), "{name}");
        }
        for name in ["API_TOKEN", "HOME", "PATH", "LANG"] {
            assert!(refused_variable(name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_link_to_a_shell_is_a_shell() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("harmless");
        std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
        assert!(refusal(link.to_str().unwrap(), &["-c".to_owned(), "x".to_owned()]).is_some());
    }
}
