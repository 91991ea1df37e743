"""The supernode's decisions. Pure: events in, effects out, `now` an argument; imports wire and itself only."""
