//! Calls that are harmless with some arguments and not with others. A filter sees numbers, never what a pointer leads
//! to: only calls whose meaning is in their registers can be here.

use serde::Serialize;

use super::{ALLOW, Rule};

/// A call, and the arguments for which it is allowed.
#[derive(Debug)]
pub(super) struct Governed {
    pub(super) name: &'static str,
    /// What it may do, for whoever would like it to do more.
    pub(super) why: &'static str,
    /// Each alternative is a list of comparisons that must all hold.
    alternatives: &'static [&'static [Comparison]],
}

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Comparison {
    /// Which argument, from 0.
    index: u32,
    /// The number; the mask, where there is one.
    value: u64,
    /// What is left under the mask.
    #[serde(rename = "valueTwo", skip_serializing_if = "is_zero")]
    value_two: u64,
    /// `SCMP_CMP_EQ` or `SCMP_CMP_MASKED_EQ`.
    op: &'static str,
}

impl Comparison {
    /// That argument is that number.
    const fn is(index: u32, value: u64) -> Self {
        Self { index, value, value_two: 0, op: "SCMP_CMP_EQ" }
    }

    /// That argument has none of these bits.
    const fn without(index: u32, bits: u64) -> Self {
        Self { index, value: bits, value_two: 0, op: "SCMP_CMP_MASKED_EQ" }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Governed {
    /// One rule for each alternative.
    pub(super) fn rules<'a>(&self) -> impl Iterator<Item = Rule<'a>> + use<'a> {
        let name = self.name;
        self.alternatives.iter().map(move |args| Rule { names: vec![name], action: ALLOW, errno: None, args })
    }
}

/// Every flag of clone(2) that makes a namespace: of mounts, control groups, host names, IPC, users, processes, network.
/// `CLONE_NEWTIME` is none of clone's: its bit is part of the exit signal there.
pub(super) const CLONE_NAMESPACES: u64 =
    0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000;

const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_NETLINK: u64 = 16;
/// The netlink protocol of addresses and routes, which libc asks for both.
const NETLINK_ROUTE: u64 = 0;

/// personality(2) values that take nothing of the kernel's protection away: Linux, a 32-bit `uname`, an old kernel's
/// version number, both, and the question which one is set. Address randomisation cannot be switched off.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The governed calls. `clone3` is none of them: its flags lie behind a pointer, so it is answered as if an older kernel
/// were asked, and libc then calls `clone`.
pub(super) const GOVERNED: [Governed; 4] = [
    Governed {
        name: "clone",
        why: "it makes processes and threads, and no namespaces",
        // The flags come first on x86-64 and arm64; only s390 has them second.
        alternatives: &[&[Comparison::without(0, CLONE_NAMESPACES)]],
    },
    Governed {
        name: "personality",
        why: "it cannot switch off address randomisation",
        alternatives: &[
            &[Comparison::is(0, PERSONALITIES[0])],
            &[Comparison::is(0, PERSONALITIES[1])],
            &[Comparison::is(0, PERSONALITIES[2])],
            &[Comparison::is(0, PERSONALITIES[3])],
            &[Comparison::is(0, PERSONALITIES[4])],
        ],
    },
    Governed {
        name: "socket",
        // A vsock reaches the hypervisor and a packet socket the wire, past every rule about addresses.
        why: "it makes unix, IPv4 and IPv6 sockets, and netlink ones that ask for addresses and routes",
        alternatives: &[
            &[Comparison::is(0, AF_UNIX)],
            &[Comparison::is(0, AF_INET)],
            &[Comparison::is(0, AF_INET6)],
            &[Comparison::is(0, AF_NETLINK), Comparison::is(2, NETLINK_ROUTE)],
        ],
    },
    Governed {
        name: "socketpair",
        why: "it makes pairs of unix sockets",
        alternatives: &[&[Comparison::is(0, AF_UNIX)]],
    },
];
