"""What crosses between ranks: transport, message format, codecs."""
