"""The error of everything that a file, an input or a frame can be wrong in; str() is one plain sentence."""

# generated:begin Table:ERROR_NAME_LIST
_ERROR_NAME_LIST = (
    "truncated bad_magic unsupported_version reserved_bits bad_header_crc "
    "bad_section unsupported_section bad_section_crc bad_hash unsupported_feature "
    "unsupported_operator bad_varint limit_exceeded bad_tensor bad_constant "
    "bad_operator bad_port bad_stream arena_too_small scratch_too_small "
    "misaligned bad_input out_of_memory bad_signature unsigned "
    "golden_mismatch "
)
# generated:end


class ThimbleError(Exception):
    """`code` is an ErrorCode of the format table (negative), `detail` says where; `name` is the code's
    name."""

    def __init__(self, code, detail=""):
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    @property
    def name(self):
        names = _ERROR_NAME_LIST.split()
        return names[-1 - self.code] if -self.code <= len(names) else str(self.code)

    def __str__(self):
        return "%s: %s" % (self.name, self.detail)
