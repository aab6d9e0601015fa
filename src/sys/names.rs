//! Names of users and groups, asked once for each number: the answer may come from a directory
//! service over the network.

use std::collections::HashMap;

use nix::unistd::{Gid, Group, Uid, User};

use crate::base::Name;

/// Remembers what numbers and names stand for.
#[derive(Default)]
pub struct Names {
    users: HashMap<u32, Option<Name>>,
    groups: HashMap<u32, Option<Name>>,
    user_numbers: HashMap<Name, Option<u32>>,
    group_numbers: HashMap<Name, Option<u32>>,
}

impl Names {
    /// The name of a user's number.
    pub fn user(&mut self, uid: u32) -> Option<Name> {
        let ask = || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|u| Name(u.name.into_bytes()));
        self.users.entry(uid).or_insert_with(ask).clone()
    }

    /// The name of a group's number.
    pub fn group(&mut self, gid: u32) -> Option<Name> {
        let ask = || Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|g| Name(g.name.into_bytes()));
        self.groups.entry(gid).or_insert_with(ask).clone()
    }

    /// The number of a user's name here.
    pub fn user_number(&mut self, name: &Name) -> Option<u32> {
        let ask = || User::from_name(str::from_utf8(&name.0).ok()?).ok().flatten().map(|u| u.uid.as_raw());
        *self.user_numbers.entry(name.clone()).or_insert_with(ask)
    }

    /// The number of a group's name here.
    pub fn group_number(&mut self, name: &Name) -> Option<u32> {
        let ask = || Group::from_name(str::from_utf8(&name.0).ok()?).ok().flatten().map(|g| g.gid.as_raw());
        *self.group_numbers.entry(name.clone()).or_insert_with(ask)
    }
}

/// The user's number, group and further groups, by name or number.
pub fn user_with_groups(name: &str) -> Option<(u32, u32, Vec<u32>)> {
    let user = match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)).ok().flatten(),
        Err(_) => User::from_name(name).ok().flatten(),
    }?;
    let text = std::ffi::CString::new(user.name.as_bytes()).ok()?;
    let groups = nix::unistd::getgrouplist(&text, user.gid).unwrap_or_default();
    Some((user.uid.as_raw(), user.gid.as_raw(), groups.into_iter().map(Gid::as_raw).collect()))
}

/// The name of a user's number and the user's home.
pub fn login(uid: u32) -> Option<(String, std::path::PathBuf)> {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
    Some((user.name, user.dir))
}
