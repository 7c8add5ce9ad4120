"""Links of event graphs: trained, scored, stored and predicted."""
