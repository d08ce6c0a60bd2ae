"""What the tables beside the audits say: progress, leases, lateness, verifications, identities."""
