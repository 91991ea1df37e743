"""The gateway's decisions about requests. Pure: imports wire and itself only."""
