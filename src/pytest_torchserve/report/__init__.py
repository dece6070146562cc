"""Saved runs: read (`reader`, `history`), and shown in a terminal (`terminal`) and as a page (`html`)."""
