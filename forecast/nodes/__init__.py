"""States of nodes as events change them: from a checked stream to a stored model."""
