//! The names of the store's commits: every transaction that writes has one.

use std::fmt;

macro_rules! commits {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// One kind of transaction that writes. A test can kill the process before and after each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Commit {
            $($(#[$doc])* $name,)*
        }

        impl Commit {
            /// Every commit.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As kill points and logs call it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

commits! {
    /// `init`: the incarnation, the first account, operator and token.
    Initialise = "initialise";
    /// `restore`: another incarnation, and publishing frozen.
    Restamp = "restamp";
    /// An operator lets publishing go on.
    ConfirmRecovery = "confirm-recovery";

    /// A deployment was asked for.
    CreateDeployment = "create-deployment";
    /// A restart was asked for.
    RestartDeployment = "restart-deployment";
    /// A deletion was asked for.
    DeleteDeployment = "delete-deployment";
    /// A secret was set.
    SetSecret = "set-secret";
    /// A secret was taken away.
    RemoveSecret = "remove-secret";
    /// What a bot may reach was changed.
    SetEgress = "set-egress";
    /// Another plan was chosen.
    SetPlan = "set-plan";
    /// A domain was claimed.
    ClaimDomain = "claim-domain";
    /// A domain's proof was looked for, or the names of a deployment were put right.
    CheckDomain = "check-domain";
    /// A domain was let go.
    RemoveDomain = "remove-domain";
    /// A snapshot was asked for, or its restore or deletion.
    OrderSnapshot = "order-snapshot";
    /// Another key that wraps was asked for.
    RotateKeys = "rotate-keys";
    /// One step towards it: the key was made, data keys were rewrapped, an old key was retired, or all is done.
    Rotation = "rotation";
    /// Staff looked at something of an account that is not theirs.
    NoteView = "note-view";
    /// Deployments got hosts, or reasons.
    Place = "place";
    /// Files were sealed to a host.
    Seal = "seal";
    /// A host got its next spec.
    Publish = "publish";
    /// What is past its time was cleared away.
    Reap = "reap";

    /// A join token was made.
    CreateJoinToken = "create-join-token";
    /// A host joined: its token is used up, its certificate issued.
    Enroll = "enroll";
    /// A host's next certificate was issued.
    RenewCertificate = "renew-certificate";
    /// Another issuing CA was made, to take over from the one before.
    BeginCaRotation = "begin-ca-rotation";
    /// An operator moved the rotation of the CA on, or back.
    StepCaRotation = "step-ca-rotation";
    /// A host said which roots and which issuer it holds.
    NoteTrust = "note-trust";
    /// A host was revoked, or retired.
    RevokeHost = "revoke-host";
    /// An operator said what may go to a host, or may leave those that are silent.
    CordonHost = "cordon-host";
    /// Agents are to become another version, or one step towards it; a host was put into a ring.
    Upgrade = "upgrade";
    /// A host opened a session.
    AdmitHost = "admit-host";
    /// A host's report was folded.
    StoreReport = "store-report";
    /// Hosts have not spoken for too long, and what may leave them does.
    Silence = "silence";
    /// Publishing was frozen, because the store is older than what a host holds.
    Freeze = "freeze";
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
