//! librdkafka behind the ports.
