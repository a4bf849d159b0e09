// SPDX-License-Identifier: MIT OR Apache-2.0
//! Find libexitbus.so: in EXITBUS_LIB_DIR, or by pkg-config. Its header, which the tests read, is
//! in EXITBUS_INCLUDE_DIR, or where pkg-config says.
use std::env;
use std::process::Command;

fn main() {
    for name in ["EXITBUS_LIB_DIR", "EXITBUS_INCLUDE_DIR", "PKG_CONFIG", "PKG_CONFIG_PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    match env::var("EXITBUS_LIB_DIR") {
        Ok(folder) => println!("cargo:rustc-link-search=native={folder}"),
        Err(_) => {
            let flags = pkg_config("--libs-only-L").unwrap_or_else(|why| {
                panic!("{why}\nSet EXITBUS_LIB_DIR to the library's folder, or PKG_CONFIG_PATH.")
            });
            for folder in flags.split_whitespace().filter_map(|flag| flag.strip_prefix("-L")) {
                println!("cargo:rustc-link-search=native={folder}");
            }
        }
    }
    println!("cargo:rustc-link-lib=dylib=exitbus");
    let include = env::var("EXITBUS_INCLUDE_DIR")
        .or_else(|_| pkg_config("--variable=includedir"))
        .unwrap_or_default();
    println!("cargo:rustc-env=EXITBUS_INCLUDE_DIR={}", include.trim());
}

fn pkg_config(question: &str) -> Result<String, String> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = Command::new(&program)
        .args([question, "exitbus"])
        .output()
        .map_err(|why| format!("{program}: {why}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    String::from_utf8(output.stdout).map_err(|why| why.to_string())
}
