"""Notifications about a sweep: ended, failed, nearly out of budget, node lost, no running trial."""
