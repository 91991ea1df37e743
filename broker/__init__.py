"""The supernode: who fetches which piece from whom. It never touches a payload byte."""
