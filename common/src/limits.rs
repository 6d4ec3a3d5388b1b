//! Every bound in the system, and what must hold between them.

/// Longest sequence of one example in nucleotides.
pub const SEQUENCE_NT_MAX: usize = 16 << 20;
/// Longest line of a text file in bytes; a genome on one line needs a large one.
pub const LINE_BYTES_MAX: usize = 1 << 30;
/// Longest line of a table, BED or index file in bytes.
pub const TABLE_LINE_BYTES_MAX: usize = 16 << 20;
/// Largest single allocation a parser makes from a number that stands in a file.
pub const PARSER_ALLOCATION_BYTES_MAX: usize = 64 << 20;
/// Rows of one Parquet part of a prepared data set.
pub const EXAMPLES_PER_PART_MAX: u64 = 65_536;
/// Bytes above which a data object is uploaded in parts.
pub const MULTIPART_BYTES_MIN: usize = 16 << 20;
/// Bytes of one uploaded part.
pub const MULTIPART_PART_BYTES: usize = 8 << 20;
/// Attempts at one store request before its error is passed on.
pub const STORE_ATTEMPTS_MAX: u32 = 8;
/// First wait between two attempts at one store request.
pub const STORE_BACKOFF_MS_MIN: u64 = 50;
/// Longest wait between two attempts at one store request.
pub const STORE_BACKOFF_MS_MAX: u64 = 5_000;
/// Age at which data that no commit names may be swept.
pub const GC_GRACE_MS: u64 = 24 * 60 * 60 * 1_000;
/// Age at which an attempt must not commit any more: it could meet the sweep of its data.
pub const ATTEMPT_AGE_MS_MAX: u64 = GC_GRACE_MS / 4;
/// Revisions of one commit; more means a store that damages all it is given.
pub const REVISIONS_MAX: u32 = 64;
/// A lease lives this long without a heartbeat.
pub const LEASE_TTL_MS: u64 = 30_000;
/// A worker sends a heartbeat this often.
pub const HEARTBEAT_INTERVAL_MS: u64 = 5_000;
/// Finished shards on their way to the store while the next unit is computed.
pub const COMMITS_IN_FLIGHT_MAX: usize = 2;
/// Bytes of finished shards that a worker keeps on its disk while the store is away.
pub const SPOOL_BYTES_MAX: u64 = 2 << 30;
/// First wait before a shard of the spool is tried again.
pub const SPOOL_WAIT_MS_MIN: u64 = 500;
/// Longest wait before a shard of the spool is tried again.
pub const SPOOL_WAIT_MS_MAX: u64 = 15_000;
/// Units a worker holds beyond the one it computes.
pub const PREFETCH_UNITS_MAX: usize = 2;
/// Failures of one unit, on at least [`FAILED_WORKERS_MIN`] workers if there are that many.
pub const UNIT_FAILURES_MAX: u32 = 3;
/// Workers a unit must have failed on before it is given up, where there are that many.
pub const FAILED_WORKERS_MIN: u32 = 2;
/// Largest message on the wire in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// A sustained rate and how far it may be exceeded for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls per second in the long run.
    pub per_second: u64,
    /// Calls at once.
    pub burst: u64,
}

/// Header fields of one request on the wire in bytes.
pub const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Calls that wait on one connection at a time.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// Connections a coordinator holds; further ones are closed at once.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Connections that have not yet said who they are.
pub const HANDSHAKES_MAX: usize = 1_024;
/// A connection says who it is within this time.
pub const HANDSHAKE_MS_MAX: u64 = 10_000;
/// Calls per second on one connection: a worker of very short units makes some dozens.
pub const CALLS_PER_CONNECTION: Rate = Rate { per_second: 500, burst: 2_000 };
/// Calls per second from one address: a whole cluster may stand behind one.
pub const CALLS_PER_ADDRESS: Rate = Rate { per_second: 5_000, burst: 20_000 };
/// Refusals per second that are worth a line in the log.
pub const REFUSALS_LOGGED: Rate = Rate { per_second: 5, burst: 100 };
/// Shortest bearer token in bytes.
pub const TOKEN_BYTES_MIN: usize = 32;
/// Longest bearer token in bytes.
pub const TOKEN_BYTES_MAX: usize = 512;
/// Largest file of certificates, of a key or of a token.
pub const TRUST_FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest name of a worker, a host or a numeric class that is taken from the wire, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// Longest content id in bytes.
pub const ID_BYTES_MAX: usize = 64;
/// Numeric classes of one worker.
pub const NUMERIC_CLASSES_MAX: usize = 64;
/// Leases that one message speaks of.
pub const LEASES_PER_MESSAGE_MAX: usize = 1_024;
/// Fits of one unit whose reasons a worker tells.
pub const FITS_PER_REPORT_MAX: usize = 4_096;
/// Longest error chain that is kept of what a worker reports, in bytes.
pub const CHAIN_BYTES_MAX: usize = 8 << 10;
/// Longest job file on the wire in bytes.
pub const JOB_FILE_BYTES_MAX: usize = 4 << 20;
/// Tokens packed into one forward pass on a CPU.
pub const TOKENS_PER_BATCH_MAX: usize = 4_096;
/// A training run writes its state at most this often.
pub const CHECKPOINT_INTERVAL_MS: u64 = 60_000;
/// Examples a fit keeps in memory where the machine does not say how much it has.
pub const EXAMPLE_CACHE_BYTES: u64 = 4 << 30;
/// Units of one job.
pub const UNITS_PER_JOB_MAX: usize = 4_000_000;

const _: () = assert!(
    HEARTBEAT_INTERVAL_MS * 3 <= LEASE_TTL_MS,
    "a lease must survive two lost heartbeats, or a slow network re-runs healthy work"
);
const _: () = assert!(
    MULTIPART_PART_BYTES <= MULTIPART_BYTES_MIN,
    "an upload in parts needs more than one part"
);
