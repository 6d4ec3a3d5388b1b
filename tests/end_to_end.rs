//! The command line from outside: jobs, resume, shards, workers, crashes, full disks.
