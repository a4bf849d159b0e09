// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each declaration of the crate is that of the header: the C compiler compares types and values,
//! and a C program tells sizes and offsets.
use exitbus_sys::*;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::mem::{align_of, size_of, MaybeUninit};
use std::path::PathBuf;
use std::process::Command;
use std::ptr::addr_of;

const SOURCE: &str = include_str!("../src/lib.rs");

/// SOURCE without comments, with one space between words.
fn source() -> String {
    let lines = SOURCE.lines().filter(|line| !line.trim_start().starts_with("//"));
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    words.join(" ").replace("( ", "(").replace(", )", ")").replace(", >", ">")
}

/// The header without comments and directives, with one space between words.
fn header() -> String {
    let path = PathBuf::from(env!("EXITBUS_INCLUDE_DIR")).join("exitbus/exitbus.h");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{path:?}: {why}"));
    let mut bare = String::new();
    for (i, part) in text.split("/*").enumerate() {
        bare += if i == 0 { part } else { part.split_once("*/").expect("an end of comment").1 };
    }
    bare.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What stands between `begin` and the next `end`, at each place where there is a `begin`.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Vec<&'a str> {
    text.split(begin).skip(1).map(|rest| rest.split(end).next().unwrap_or("")).collect()
}

/// `text` cut at the commas that are in no brackets.
fn at_commas(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (i, letter) in text.char_indices() {
        match letter {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// `name: type` in two, without `pub`.
fn field(text: &str) -> (&str, &str) {
    text.trim_start_matches("pub ").split_once(": ").expect("a name and a type")
}

/// (name, fields) of the structs whose inside is public.
fn structs(source: &str) -> Vec<(&str, Vec<(&str, &str)>)> {
    between(source, "#[derive(Clone, Copy, Debug)] pub struct ", " }")
        .into_iter()
        .map(|text| text.split_once(" { ").expect("a struct"))
        .map(|(name, fields)| (name, at_commas(fields).into_iter().map(field).collect()))
        .collect()
}

/// (name, arguments, result) of the calls.
fn calls(source: &str) -> Vec<(&str, Vec<&str>, &str)> {
    between(source, "pub fn ", ";")
        .into_iter()
        .map(|text| {
            let (call, result) = text.split_once(") -> ").expect("a call");
            let (name, arguments) = call.split_once('(').expect("arguments");
            (name, at_commas(arguments).into_iter().map(|text| field(text).1).collect(), result)
        })
        .collect()
}

/// The arguments of a function's type, in C.
fn c_arguments(source: &str, types: &[&str]) -> String {
    if types.is_empty() {
        return "void".into();
    }
    types.iter().map(|name| c_type(source, name)).collect::<Vec<_>>().join(", ")
}

/// A type of Rust in C.
fn c_type(source: &str, name: &str) -> String {
    if let Some(to) = name.strip_prefix("*const ") {
        return format!("{} const *", c_type(source, to));
    }
    if let Some(to) = name.strip_prefix("*mut ") {
        return format!("{} *", c_type(source, to));
    }
    if let Some(array) = name.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let (element, count) = array.split_once("; ").expect("a count");
        return format!("{}[{count}]", c_type(source, element));
    }
    let function = name.trim_start_matches("Option<").trim_start();
    if let Some(function) = function.strip_prefix("unsafe extern \"C\" fn(") {
        let (arguments, result) = function.split_once(')').expect("arguments");
        let result = result.trim_start_matches(" -> ").trim_end_matches('>').trim();
        let types: Vec<&str> = at_commas(arguments).into_iter().map(|text| field(text).1).collect();
        let result = if result.is_empty() { "void".into() } else { c_type(source, result) };
        return format!("{result} (*)({})", c_arguments(source, &types));
    }
    let simple = match name {
        "c_char" => "char",
        "c_int" => "int",
        "c_uint" => "unsigned",
        "c_void" => "void",
        "u8" => "uint8_t",
        "i32" => "int32_t",
        "u32" => "uint32_t",
        "i64" => "int64_t",
        "u64" => "uint64_t",
        "usize" => "size_t",
        "isize" => "ssize_t",
        "rusage" => "struct rusage",
        _ if source.contains(&format!("pub type {name} = ")) => return format!("enum {name}"),
        _ if name.starts_with("exitbus") => return format!("struct {name}"),
        _ => name, // pid_t and others of the C library
    };
    simple.into()
}

/// Statements of C that compile if all is alike.
fn assertions(source: &str) -> String {
    let mut text = String::new();
    let mut same = |what: String, of_c: String| {
        writeln!(
            text,
            "_Static_assert(__builtin_types_compatible_p(__typeof__({what}), {of_c}), \"{what}\");"
        )
        .expect("a string grows");
    };
    for (name, fields) in structs(source) {
        for (field, kind) in fields {
            same(format!("((struct {name} *)0)->{field}"), c_type(source, kind));
        }
    }
    for (name, arguments, result) in calls(source) {
        let arguments = c_arguments(source, &arguments);
        same(name.into(), format!("{} ({arguments})", c_type(source, result)));
    }
    for constant in between(source, "pub const ", ";") {
        let (name, value) = constant.split_once(" = ").expect("a value");
        let name = field(name).0;
        writeln!(text, "_Static_assert({name} == {value}, \"{name}\");").expect("a string grows");
    }
    text
}

/// Compile a program that prints the layout of the structs, run it, and return what it says.
fn run_c(source: &str) -> String {
    let mut text = String::from("#include <exitbus/exitbus.h>\n#include <stdio.h>\n");
    text += &assertions(source);
    text += "int main(void) {\n";
    for (name, fields) in structs(source) {
        let line = format!("sizeof(struct {name}), _Alignof(struct {name})");
        writeln!(text, "printf(\"{name} %zu %zu\\n\", {line});").expect("a string grows");
        for (field, _) in fields {
            let offset = format!("offsetof(struct {name}, {field})");
            writeln!(text, "printf(\"{name}.{field} %zu\\n\", {offset});").expect("a string grows");
        }
    }
    text += "return 0;\n}\n";
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (file, program) = (folder.join("header.c"), folder.join("header"));
    std::fs::write(&file, text).expect("a file to write");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let compiled = Command::new(&compiler)
        .args(["-std=c11", "-D_GNU_SOURCE", "-I", env!("EXITBUS_INCLUDE_DIR"), "-o"])
        .args([&program, &file])
        .output()
        .unwrap_or_else(|why| panic!("{compiler}: {why}"));
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let said = Command::new(&program).output().expect("the program runs");
    assert!(said.status.success());
    String::from_utf8(said.stdout).expect("text")
}

macro_rules! layout {
    ($($name:ident { $($field:ident),* })*) => {{
        let mut text = String::new();
        $(
            let (size, alignment) = (size_of::<$name>(), align_of::<$name>());
            writeln!(text, "{} {size} {alignment}", stringify!($name)).expect("a string grows");
            let object = MaybeUninit::<$name>::uninit();
            let base = object.as_ptr();
            $(
                // No memory is read: addr_of! makes no reference.
                let offset = unsafe { addr_of!((*base).$field) } as usize - base as usize;
                writeln!(text, "{}.{} {offset}", stringify!($name), stringify!($field))
                    .expect("a string grows");
            )*
        )*
        text
    }};
}

#[test]
fn types_values_sizes_and_offsets_are_those_of_the_header() {
    let here = layout! {
        exitbus_event { seq, pid, kind, flags, container_id_size, exec_id_size, status, exit_code,
                        monotonic_ns, realtime_ns, user_us, system_us, max_rss_kib, container_id,
                        exec_id }
        exitbus_event_details { start_ns, inode, comm, reserved }
        exitbus_allocator { allocate, release, context }
        exitbus_options { flags, allocator }
        exitbus_stats { published, delivered, dropped, subscriptions, bytes, helped,
                        sleeping_receivers, reserved }
        exitbus_topic { kind, pid, container_id, exec_id }
        exitbus_reaper_options { mode, flags, record_fd }
        exitbus_spawn_action { kind, fd, source_fd, path, open_flags, mode }
        exitbus_spawn_report { step, error, index, reserved }
        exitbus_spawn_limit { resource, soft, hard }
        exitbus_spawn_attributes { set, uid, gid, groups, group_count, umask, nice, scheduler,
                                   scheduler_priority, cpus, cpus_size, limits, limit_count,
                                   death_signal, cgroup_fd, namespaces, root, terminal_fd,
                                   program_fd, pidfd, reserved }
        exitbus_spawn_options { path, argv, envp, directory, actions, action_count, flags,
                                process_group, signal_mask, signal_default, report, attributes }
        exitbus_group_options { kind, flags, name, leader, cgroup_fd }
        exitbus_task_options { kill, flags, cgroup_fd, bound_ns }
    };
    assert_eq!(here, run_c(&source()));
}

/// `name.member`, of each struct that the header defines.
fn header_members(header: &str) -> BTreeSet<String> {
    let mut members = BTreeSet::new();
    let mut rest = header;
    while let Some((before, after)) = rest.split_once(" { ") {
        rest = after;
        let mut words = before.rsplit(' ');
        let name = words.next().unwrap_or("");
        if words.next() != Some("struct") {
            continue;
        }
        let body = after.split('}').next().unwrap_or("");
        for member in body.split(';').map(str::trim).filter(|member| !member.is_empty()) {
            let member = match member.split_once("(*") {
                Some((_, function)) => function.split(')').next(),
                None => member.split('[').next().and_then(|text| text.rsplit([' ', '*']).next()),
            };
            members.insert(format!("{name}.{}", member.unwrap_or("")));
        }
    }
    members
}

#[test]
fn nothing_of_the_header_is_missing() {
    let (source, header) = (source(), header());
    let members: BTreeSet<String> = structs(&source)
        .iter()
        .flat_map(|(name, fields)| fields.iter().map(move |(field, _)| format!("{name}.{field}")))
        .collect();
    assert!(members.len() > 90, "{members:?}");
    assert_eq!(members, header_members(&header));

    let names: BTreeSet<&str> = calls(&source).into_iter().map(|(name, _, _)| name).collect();
    let wanted: BTreeSet<&str> = between(&header, "EXITBUS_API ", "(")
        .into_iter()
        .filter_map(|text| text.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("exitbus_"))
        .collect();
    assert!(wanted.len() > 60, "{wanted:?}");
    assert_eq!(names, wanted);

    let word = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '_');
    let upper = |text: &&str| {
        text.starts_with("EXITBUS_") && !["EXITBUS_API", "EXITBUS_EXITBUS_H"].contains(text)
    };
    let constants: BTreeSet<&str> = header.split(word).filter(upper).collect();
    assert!(constants.len() > 90, "{constants:?}");
    for constant in constants {
        assert!(source.contains(&format!("pub const {constant}: ")), "{constant} is missing");
    }
}

#[test]
fn every_call_is_in_the_library() {
    let version = unsafe { CStr::from_ptr(exitbus_version()) }.to_str().expect("text");
    let wanted = [EXITBUS_VERSION_MAJOR, EXITBUS_VERSION_MINOR, EXITBUS_VERSION_PATCH];
    assert_eq!(version, wanted.map(|part| part.to_string()).join("."));
    for (name, _, _) in calls(&source()) {
        let symbol = CString::new(name).expect("a name");
        let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) };
        assert!(!address.is_null(), "{name}");
    }
}
