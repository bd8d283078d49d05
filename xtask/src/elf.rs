//! Whether an executable is static: the one question we have about ELF files.
//!
//! Not a parser of anything else in them.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Program header type of "this file wants a dynamic loader" (elf(5)).
const PT_INTERP: u32 = 3;

/// True when no dynamic loader is asked for.
pub(crate) fn is_static(file: &Path) -> Result<bool> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "{} is no 64-bit little-endian ELF", file.display());
    let headers = program_header_types(&bytes).with_context(|| format!("{} is cut short", file.display()))?;
    Ok(!headers.contains(&PT_INTERP))
}

/// Offsets are those of Elf64_Ehdr: e_phoff at 32, e_phentsize at 54, e_phnum at 56; p_type comes first.
fn program_header_types(bytes: &[u8]) -> Option<Vec<u32>> {
    let start = usize::try_from(u64::from_le_bytes(bytes.get(32..40)?.try_into().ok()?)).ok()?;
    let size = usize::from(u16::from_le_bytes(bytes.get(54..56)?.try_into().ok()?));
    let count = usize::from(u16::from_le_bytes(bytes.get(56..58)?.try_into().ok()?));
    let kind = |index: usize| {
        let at = start.checked_add(index.checked_mul(size)?)?;
        Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
    };
    (0..count).map(kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of 64 bytes and one program header of type `kind`.
    fn executable(kind: u32) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&kind.to_le_bytes());
        bytes
    }

    fn check(bytes: &[u8], expected: Option<bool>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        assert_eq!(is_static(file.path()).ok(), expected);
    }

    #[test]
    fn a_file_without_a_loader_is_static() {
        check(&executable(1), Some(true));
        check(&executable(PT_INTERP), Some(false));
    }

    #[test]
    fn a_script_or_a_cut_file_is_an_error() {
        check(b"#!/bin/sh", None);
        check(&executable(1)[..60], None);
        check(&executable(1)[..66], None);
    }
}
