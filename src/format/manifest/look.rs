//! Quick looks at a line, which do not read all of it. They rely on the canonical form, which a full read demands: what they
//! find is what [`Entry::read_line`](super::Entry::read_line) finds.

use super::{DATABASE, EXACT, PATH, TORN, WHAT};
use crate::base::id::ChunkId;
use crate::format::FormatError;

/// The path at the start of a line, without reading the rest. `None` if it is no entry's line.
pub fn line_path(line: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    let rest = line.strip_prefix(PATH)?;
    crate::base::name::read_json(rest).map(|(path, _)| path)
}

/// True if an entry's line says that it is a database. Relies on the canonical form; a quote inside of a name is escaped.
pub fn line_is_database(line: &[u8]) -> bool {
    memchr::memmem::find(line, DATABASE).is_some()
}

/// True if an entry's line says exactly what [`write_stat`](super::write_stat) wrote of an entry that is there now: nothing that `lstat` tells has
/// changed.
pub fn line_says(line: &[u8], expected: &[u8]) -> bool {
    matches!(line.strip_prefix(expected).and_then(|rest| rest.first()), Some(b',' | b'}'))
}

/// True if an entry's line says that the file never held still. Relies on the canonical form, as [`line_is_database`] does.
pub fn line_is_torn(line: &[u8]) -> bool {
    memchr::memmem::find(line, TORN).is_some()
}

/// True if an entry's line is of a database that is not the bytes of its file: its log was merged into the copy.
pub fn line_is_merged(line: &[u8]) -> bool {
    line_is_database(line) && memchr::memmem::find(line, EXACT).is_none()
}

/// The chunk ids of an entry's line, found without reading the rest of it. Relies on the
/// canonical form: the chunks are the last key, and no other list ends with a string.
///
/// # Errors
/// If the list is malformed.
pub fn line_chunks(line: &[u8], mut found: impl FnMut(ChunkId)) -> Result<(), FormatError> {
    // a quote, 64 digits, a quote, and what separates it from the one before
    const ITEM: usize = 67;
    let Some(list) = line.strip_suffix(b"]}").filter(|list| list.last() == Some(&b'"')) else {
        return Ok(());
    };
    let bad = || FormatError::malformed(WHAT, "a list of chunks");
    let mut start = list.len();
    loop {
        start = start.checked_sub(ITEM).ok_or_else(bad)?;
        match list[start] {
            b',' => {}
            b'[' => break,
            _ => return Err(bad()),
        }
    }
    if !list[..start].ends_with(b",\"chunks\":") {
        return Err(bad());
    }
    for item in list[start..].chunks_exact(ITEM) {
        if item[1] != b'"' || item[ITEM - 1] != b'"' {
            return Err(bad());
        }
        found(ChunkId(crate::base::id::from_hex(&item[2..ITEM - 1]).ok_or_else(bad)?));
    }
    Ok(())
}
