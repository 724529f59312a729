//! Writes one event as the JSON object a Kafka record carries.

/// A JSON object under construction; fields appear in the order they are added.
#[derive(Debug)]
pub struct EventJson {
    bytes: Vec<u8>,
}

impl EventJson {
    /// An empty object with room for an ordinary event.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = Vec::with_capacity(384);
        bytes.push(b'{');
        Self { bytes }
    }

    /// Adds a string field, escaped as JSON demands. The name is one of ours and needs no escape.
    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        serde_json::to_writer(&mut self.bytes, value).expect("a string into memory cannot fail");
    }

    /// Adds a UUID.
    pub fn id(&mut self, name: &str, id: uuid::Uuid) {
        let mut buffer = uuid::Uuid::encode_buffer();
        self.plain(name, id.as_hyphenated().encode_lower(&mut buffer));
    }

    /// Adds a string field whose value needs no escape.
    pub fn plain(&mut self, name: &str, value: &str) {
        self.name(name);
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'"');
    }

    /// Adds a string field whose value needs no escape, as it shows itself.
    pub fn shown(&mut self, name: &str, value: &dyn std::fmt::Display) {
        use std::io::Write as _;
        self.name(name);
        write!(self.bytes, "\"{value}\"").expect("writing into memory cannot fail");
    }

    /// Adds a field whose value is a complete JSON token already.
    pub fn raw(&mut self, name: &str, token: &str) {
        self.name(name);
        self.bytes.extend_from_slice(token.as_bytes());
    }

    /// The finished object.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(b'}');
        self.bytes
    }

    fn name(&mut self, name: &str) {
        if self.bytes.len() > 1 {
            self.bytes.push(b',');
        }
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }
}

impl Default for EventJson {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::EventJson;

    #[test]
    fn fields_keep_their_order_and_text_is_escaped() {
        let mut event = EventJson::new();
        event.text("url", "/a\"b\\\n");
        event.raw("event_ts", "12");
        assert_eq!(event.finish(), br#"{"url":"/a\"b\\\n","event_ts":12}"#);
    }

    #[test]
    fn an_event_without_fields_is_an_empty_object() {
        assert_eq!(EventJson::new().finish(), b"{}");
    }
}
