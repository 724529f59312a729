//! Deliberate bugs. A checker that cannot object proves nothing, so each of these must be found
//! within a few thousand seeds.

/// A bug of the simulated database or of the simulated processor.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Sabotage {
    /// Neither the fence nor the advance looks at the claim and the position.
    NoFence,
    /// The checkpoint moves when the transaction asks for it, and stays moved when the transaction
    /// does not commit.
    AdvanceOutsideTransaction,
    /// Dead letters stay when their transaction does not commit.
    DeadLettersOutsideTransaction,
    /// An insert does not wait for a twin that is not committed yet.
    TwinsDoNotWait,
    /// A crash of the database loses rows and keeps the checkpoints that moved past them.
    CrashKeepsCheckpoints,
    /// After a commit of unknown outcome the flush is sent again under the new claim.
    RepeatAfterUnknownCommit,
    /// Users and visits of a flush replace those that are stored, which other flushes have seen.
    VisitorsAreReplaced,
    /// After a claim the reader goes on where it stood, not where the database stands.
    QueueOutlivesClaim,
    /// The event times of the checkpoint are not taken up at a claim.
    ClockForgottenAtClaim,
    /// A claim reads the position under the checkpoint's lock, and the event times before it.
    ClaimIsTorn,
    /// A lost connection makes a processor claim only what was in the flush. What is not in it may
    /// have been set back by the same crash of the database, and is never flushed again when it was
    /// already at the end of the log.
    OnlyTheFlushIsReclaimed,
    /// A processor without anything to flush does not notice that its connection is gone.
    IdleLossGoesUnnoticed,
    /// A batch that cannot be read is passed over, and what comes behind it is taken for what comes
    /// next.
    UnreadableIsPassedOver,
    /// The anchor of a change of the rules stands one offset behind the first record that is judged
    /// by them.
    AnchorOneOff,
    /// A change of the rules between a claim and its first record goes unnoticed: no anchor tells
    /// of it.
    ChangeAfterClaimGoesUnnoticed,
    /// What happens to late events follows from the rules when the flush is written, not when its
    /// records were taken.
    FlushFollowsNewerRules,
    /// A change of the rules writes no anchor.
    ChangeWithoutAnchor,
    /// Dead letters of one record have one key, so that of a batch the first one alone is kept.
    BatchHasOneDeadLetter,
    /// After a claim it is not looked up which pages of a window have rows of their own.
    AdmittedPagesAreNotReadAgain,
    /// Pages that got rows of their own keep them when their transaction does not commit.
    AdmittedOutsideTransaction,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::NoFence,
        Self::AdvanceOutsideTransaction,
        Self::DeadLettersOutsideTransaction,
        Self::TwinsDoNotWait,
        Self::CrashKeepsCheckpoints,
        Self::RepeatAfterUnknownCommit,
        Self::VisitorsAreReplaced,
        Self::QueueOutlivesClaim,
        Self::ClockForgottenAtClaim,
        Self::ClaimIsTorn,
        Self::OnlyTheFlushIsReclaimed,
        Self::IdleLossGoesUnnoticed,
        Self::UnreadableIsPassedOver,
        Self::AnchorOneOff,
        Self::ChangeAfterClaimGoesUnnoticed,
        Self::FlushFollowsNewerRules,
        Self::ChangeWithoutAnchor,
        Self::BatchHasOneDeadLetter,
        Self::AdmittedPagesAreNotReadAgain,
        Self::AdmittedOutsideTransaction,
    ];
}
