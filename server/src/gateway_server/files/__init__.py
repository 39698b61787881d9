"""Named, owned, expiring files: their library, uploads in parts, and what goes into and comes out of a workspace."""
