//! POSIX ACLs as text, as archives hold them.

/// The ACL of this extended attribute's value, in the short form that GNU tar and libarchive read, owners by their
/// numbers; `None` if it is not the kernel's form.
pub fn text(value: &[u8]) -> Option<String> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 2 || entries.len() % 8 != 0 {
        return None;
    }
    let mut parts = Vec::new();
    for entry in entries.chunks_exact(8) {
        let number = |at: usize| Some(u16::from_le_bytes(*entry.get(at..)?.first_chunk()?));
        let (tag, permissions) = (number(0)?, number(2)?);
        let id = u32::from_le_bytes(*entry.get(4..)?.first_chunk()?);
        let who = match tag {
            0x01 => "user:".to_owned(),
            0x02 => format!("user:{id}"),
            0x04 => "group:".to_owned(),
            0x08 => format!("group:{id}"),
            0x10 => "mask:".to_owned(),
            0x20 => "other:".to_owned(),
            _ => return None,
        };
        let may = |bit, letter| if permissions & bit != 0 { letter } else { '-' };
        parts.push(format!("{who}:{}{}{}", may(4, 'r'), may(2, 'w'), may(1, 'x')));
    }
    Some(parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn the_kernels_form_becomes_text() {
        let entry = |tag: u16, permissions: u16, id: u32| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let own = u32::MAX;
        let entries = [
            entry(1, 6, own),
            entry(2, 5, 1001),
            entry(4, 4, own),
            entry(8, 7, 20),
            entry(16, 7, own),
            entry(32, 0, own),
        ];
        let value = [&2u32.to_le_bytes()[..], &entries.concat()].concat();
        let said = "user::rw-,user:1001:r-x,group::r--,group:20:rwx,mask::rwx,other::---";
        assert_eq!(text(&value).as_deref(), Some(said));
        assert_eq!(text(&value[..value.len() - 1]), None);
        assert_eq!(text(&[1, 0, 0, 0]), None);
        assert_eq!(text(b""), None);
    }
}
