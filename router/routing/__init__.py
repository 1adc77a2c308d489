"""Event → Plan: targets, routes, and the table that matches."""
