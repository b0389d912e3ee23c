-- What the holder of a lease tells of what it does, as long as the lease lasts: JSON.
ALTER TABLE leases ADD COLUMN told TEXT;
