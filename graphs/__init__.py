"""Graph structures and networks, usable without `forecast`: event stores and temporal graphs come here."""
