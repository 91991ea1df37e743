"""What `dfdaemon setup` writes into other programs' settings, decided without touching anything: files in, a plan out."""
