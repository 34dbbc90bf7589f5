// Text that holds plain numbers, as nearly all files do, into arrays. What is anything else is refused as a whole, for the
// readers in Python: they read all that may stand in a file, and say what is wrong with it and where.
//
// A text ends with a line feed, which no number and no cell holds; so no scan goes on behind it.
#include <charconv>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#if defined(_WIN32)
#define JAXRNN_EXPORT extern "C" __declspec(dllexport)
#else
#define JAXRNN_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace {

constexpr int64_t kMostCharacters = 4096;          // of a field: MAX_FIELD_LENGTH of options.py
constexpr double kOverflow = 3.4028235677973366e38;  // FLOAT32_OVERFLOW there
constexpr double kPowersOfTen[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                   1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
constexpr int kMostExactPower = 22;
constexpr uint64_t kMostExactInteger = uint64_t(1) << 53;
constexpr int kMostDigits = 19;  // that 64 bits hold

// Reads digits; returns the place behind them.
inline const char* ReadDigits(const char* at, uint64_t* number) {
  for (unsigned digit; (digit = unsigned(static_cast<unsigned char>(*at)) - '0') < 10; ++at) *number = *number * 10 + digit;
  return at;
}

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
constexpr bool kFirstIsLowest = true;  // of the bytes of a word
#else
constexpr bool kFirstIsLowest = false;
#endif
constexpr int kWord = 8;

// The value of up to eight digits, the characters of a word less '0'.
inline uint64_t ValueOfDigits(uint64_t word) {
  word = (word * (1 + (10 << 8))) >> 8 & 0x00ff00ff00ff00ff;
  word = (word * (1 + (100 << 16))) >> 16 & 0x0000ffff0000ffff;
  return (word * (1 + (uint64_t(10000) << 32))) >> 32;
}
// The highest bit of each byte of a word, the characters less '0', that is no digit.
inline uint64_t OtherThanDigits(uint64_t word) {
  return (((word & 0x7f7f7f7f7f7f7f7f) + 0x7676767676767676) | word) & 0x8080808080808080;
}

// A number that stands, with its sign and what ends it, within eight characters.
struct InWord {
  uint64_t number = 0;
  int fraction = 0;  // how many digits stand behind the point
  int size = 0;      // of characters, its sign among them; 0 if it is not such a number
  bool is_negative = false;
};

// Takes eight characters at once: digit after digit, the processor would have to guess each time which is the last one.
template <bool kTakesPoint>
inline InWord ReadWord(const char* at, const char* end) {
  InWord found;
  if (!kFirstIsLowest || end - at < kWord) return found;
  uint64_t word;
  std::memcpy(&word, at, kWord);
  found.is_negative = (word & 0xff) == '-';
  word ^= 0x3030303030303030;  // digits become their values, other characters 10 and more
  uint64_t others = OtherThanDigits(word);
  others ^= uint64_t(found.is_negative) << 7;
  if (!others) return found;
  int size = __builtin_ctzll(others) / 8, digits = size - found.is_negative;
  const bool has_point = kTakesPoint && ((word >> 8 * size) & 0xff) == ('.' ^ '0');
  word >>= 8 * found.is_negative;
  if (has_point) {
    const uint64_t behind = others & (others - 1);
    if (!behind) return found;
    const int before = 8 * digits;
    word = (word & ((uint64_t(1) << before) - 1)) | (word >> before >> 8 << before);  // without the point
    found.fraction = __builtin_ctzll(behind) / 8 - size - 1;
    digits += found.fraction;
    size += found.fraction + 1;
  }
  if (digits == 0) return found;
  found.number = ValueOfDigits(word << 8 * (kWord - digits));  // zeros in front
  found.size = size;
  return found;
}

// A whole number of so many digits at most; where it is to become a double, not -0, whose sign it would lose.
template <typename Integer, int kMost, bool kTakesMinusZero>
struct WholeNumber {
  using Value = Integer;
  static const char* Read(const char* at, const char* end, Integer* value) {
    const InWord word = ReadWord<false>(at, end);
    if (word.size && (word.number || !word.is_negative)) {
      const Integer sign = -Integer(word.is_negative);
      *value = (Integer(word.number) ^ sign) - sign;  // no branch: signs of data are not to be foreseen
      return at + word.size;
    }
    const bool is_negative = *at == '-';
    const char* const digits = at += is_negative;
    uint64_t number = 0;
    at = ReadDigits(at, &number);
    if (at == digits || at - digits > kMost || (is_negative && number == 0 && !kTakesMinusZero)) return nullptr;
    *value = is_negative ? -Integer(number) : Integer(number);
    return at;
  }
};
using Short = WholeNumber<int32_t, 8, false>;
using Whole = WholeNumber<int64_t, 18, true>;

// A decimal number below what float32 can hold, correctly rounded to a double. Digits that make a whole number of 53 bits
// and a power of ten that a double holds are both exact, and one division or product rounds once (W. D. Clinger, "How to
// read floating point numbers accurately", 1990); others are left to the standard library.
struct Decimal {
  using Value = double;
  static const char* Read(const char* at, const char* end, double* value) {
    const InWord word = ReadWord<true>(at, end);
    if (word.size && (at[word.size] | 0x20) != 'e') {
      constexpr double kSigns[] = {1.0, -1.0};
      *value = double(word.number) / kPowersOfTen[word.fraction] * kSigns[word.is_negative];
      return at + word.size;
    }
    const bool is_negative = *at == '-';
    const char* const unsigned_part = at += is_negative || *at == '+';
    uint64_t number = 0;
    at = ReadDigits(at, &number);
    int64_t num_digits = at - unsigned_part, exponent = 0;
    if (*at == '.') {
      const char* const fraction = ++at;
      at = ReadDigits(at, &number);
      exponent = fraction - at;
      num_digits += at - fraction;
    }
    if (num_digits == 0) return nullptr;
    if (*at == 'e' || *at == 'E') {
      const bool is_below_one = *++at == '-';
      const char* const digits = at += is_below_one || *at == '+';
      uint64_t written = 0;
      at = ReadDigits(at, &written);
      if (at == digits || at - digits > 5) return nullptr;
      exponent += is_below_one ? -int64_t(written) : int64_t(written);
    }
    double found;
    if (num_digits <= kMostDigits && number <= kMostExactInteger && exponent >= -kMostExactPower &&
        exponent <= kMostExactPower) {
      found = exponent < 0 ? double(number) / kPowersOfTen[-exponent] : double(number) * kPowersOfTen[exponent];
    } else {
#ifdef __cpp_lib_to_chars
      const std::from_chars_result result = std::from_chars(unsigned_part, at, found);
      if (result.ec != std::errc() || result.ptr != at) return nullptr;
#else
      return nullptr;
#endif
    }
    if (!(found < kOverflow)) return nullptr;
    *value = is_negative ? -found : found;
    return at;
  }
};

bool EndsWithLineFeed(const char* text, int64_t size) { return size > 0 && text[size - 1] == '\n'; }

// Reads rows of numbers, perhaps with spaces around them. There is room for `capacity` values, and as many rows.
template <typename Number>
bool ReadRows(const char* text, int64_t size, char delimiter, int64_t least, int64_t most, typename Number::Value* values,
              int32_t* lengths, int64_t capacity, int64_t* num_values, int64_t* num_rows) {
  // A value takes two characters at least, its own and what ends it.
  if (!EndsWithLineFeed(text, size) || capacity < size / 2) return false;
  const bool may_have_spaces = delimiter != ' ';
  int64_t value = 0, row = 0;
  for (const char *at = text, *const end = text + size; at < end;) {
    const int64_t first = value;
    for (char ending = delimiter; ending == delimiter; ++value) {
      const char* const field = at;
      while (may_have_spaces && *at == ' ') ++at;
      at = Number::Read(at, end, values + value);
      if (!at) return false;
      while (may_have_spaces && *at == ' ') ++at;
      if (at - field >= kMostCharacters) return false;
      ending = *at++;
      if (ending != delimiter && ending != '\n') return false;
    }
    if (value - first < least || value - first > most) return false;
    lengths[row++] = int32_t(value - first);
  }
  *num_values = value;
  *num_rows = row;
  return true;
}

#ifdef __SSE2__
// Reads rows as `ReadRows` does, of whole numbers of at most eight characters, their signs among them, with nothing around
// them. Where they end is found for many characters at once, so that no number waits for the one before it, and nothing is
// left to be guessed: what is wrong with any of them is looked at for all of these together.
bool ReadShortRows(const char* text, int64_t size, char delimiter, int64_t least, int64_t most, int32_t* values,
                   int32_t* lengths, int64_t capacity, int64_t* num_values, int64_t* num_rows) {
  constexpr int kAtOnce = 64;
  if (!EndsWithLineFeed(text, size) || capacity < size / 2) return false;
  const __m128i delimiters = _mm_set1_epi8(delimiter), line_feeds = _mm_set1_epi8('\n');
  int64_t value = 0, row = 0, first = 0;
  const char* begin = text;
  for (int64_t block = 0; block < size; block += kAtOnce) {
    char last[kAtOnce] = {};
    const char* from = text + block;
    if (size - block < kAtOnce) from = static_cast<char*>(std::memcpy(last, from, size - block));
    uint64_t ends = 0, row_ends = 0;
    for (int i = 0; i < kAtOnce; i += 16) {
      const __m128i some = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
      row_ends |= uint64_t(uint32_t(_mm_movemask_epi8(_mm_cmpeq_epi8(some, line_feeds)))) << i;
      ends |= uint64_t(uint32_t(_mm_movemask_epi8(_mm_cmpeq_epi8(some, delimiters)))) << i;
    }
    bool is_bad = false;
    for (ends |= row_ends; ends; ends &= ends - 1) {
      const int bit = __builtin_ctzll(ends);
      const char* const end = text + block + bit;
      const int64_t count = end - begin;
      if (uint64_t(count - 1) >= kWord) return false;
      uint64_t word;
      if (end - text >= kWord) {
        std::memcpy(&word, end - kWord, kWord);
      } else {  // of the first few
        char padded[kWord] = {};
        std::memcpy(padded + kWord - count, begin, count);
        std::memcpy(&word, padded, kWord);
      }
      const int before = int(8 * (kWord - count));  // bits of what stands in front
      word = (word ^ 0x3030303030303030) >> before << before;
      const bool is_negative = (word >> before & 0xff) == ('-' ^ '0');
      word &= ~(uint64_t(is_negative ? 0xff : 0) << before);
      const int32_t number = int32_t(ValueOfDigits(word));
      values[value++] = is_negative ? -number : number;
      const bool is_last = row_ends >> bit & 1;
      const int64_t length = value - first;
      is_bad |= (OtherThanDigits(word) != 0) | (is_negative & (number == 0)) | (is_last & ((length < least) | (length > most)));
      lengths[row] = int32_t(length);
      row += is_last;
      first = is_last ? value : first;
      begin = end + 1;
    }
    if (is_bad) return false;
  }
  *num_values = value;
  *num_rows = row;
  return true;
}
#endif

enum Kind : uint8_t { kText = 0, kDecimal = 1, kWhole = 2, kUnread = 3 };

// One column: of numbers, an array; of texts, the rows from which on a text is another than before, where each of these
// texts ends among their characters, and the characters.
struct Column {
  void* numbers;
  int32_t *rows, *ends;
  char* characters;
  int64_t num_texts;
};

template <typename Number>
const char* ReadCell(const char* at, const char* end, const Column& column, int64_t row) {
  return Number::Read(at, end, static_cast<typename Number::Value*>(column.numbers) + row);
}

inline bool IsEnd(char c, char delimiter) { return c == delimiter || c == '\n' || c == '\r'; }

// Goes past a cell; null if there is a quote in it.
inline const char* PassText(const char* at, char delimiter) {
  for (; !IsEnd(*at, delimiter); ++at) {
    if (*at == '"') return nullptr;
  }
  return at;
}

// Texts without quotes, the last of which began at `before`.
class TextColumn {
 public:
  const char* Read(const char* at, const char* end, char delimiter, Column& column, int64_t row) {
    if (before_ && end - at > size_ && IsEnd(at[size_], delimiter) && std::memcmp(at, before_, size_) == 0) return at + size_;
    const char* const begin = at;
    at = PassText(at, delimiter);
    if (!at) return nullptr;
    before_ = begin;
    size_ = at - begin;
    std::memcpy(column.characters + num_characters_, begin, size_);
    num_characters_ += size_;
    column.rows[column.num_texts] = int32_t(row);
    column.ends[column.num_texts++] = int32_t(num_characters_);
    return at;
  }

 private:
  const char* before_ = nullptr;
  int64_t size_ = 0, num_characters_ = 0;
};

constexpr int64_t kMostColumns = 64;

}  // namespace

// What a text holds: 1 for a NUL byte, 2 for one that is not ASCII, 4 for a quote, added up.
JAXRNN_EXPORT int JaxrnnSurvey1(const char* text, int64_t size) {
  uint8_t has_nul = 0, all = 0, has_quote = 0;
  for (int64_t i = 0; i < size; ++i) {
    has_nul |= text[i] == 0;
    all |= uint8_t(text[i]);
    has_quote |= text[i] == '"';
  }
  return has_nul | (all >> 7) << 1 | has_quote << 2;
}

// How many line feeds a text has.
JAXRNN_EXPORT int64_t JaxrnnCountLines1(const char* text, int64_t size) {
  int64_t count = 0;
  for (int64_t i = 0; i < size;) {  // sums of a byte each, which the compiler adds up many at a time
    const int64_t stop = size - i < 255 ? size : i + 255;
    uint8_t some = 0;
    for (; i < stop; ++i) some += text[i] == '\n';
    count += some;
  }
  return count;
}

// Reads rows of numbers into values of int32, or of double where `is_whole` is 0; returns whether they are all plain.
JAXRNN_EXPORT int JaxrnnReadRows1(const char* text, int64_t size, char delimiter, int is_whole, int64_t least, int64_t most,
                                  void* values, int32_t* lengths, int64_t capacity, int64_t* num_values, int64_t* num_rows) {
#ifdef __SSE2__
  if (is_whole && ReadShortRows(text, size, delimiter, least, most, static_cast<int32_t*>(values), lengths, capacity,
                                num_values, num_rows)) {
    return true;
  }
#endif
  return is_whole ? ReadRows<Short>(text, size, delimiter, least, most, static_cast<int32_t*>(values), lengths, capacity,
                                    num_values, num_rows)
                  : ReadRows<Decimal>(text, size, delimiter, least, most, static_cast<double*>(values), lengths, capacity,
                                      num_values, num_rows);
}

// Reads `num_rows` records, of a cell for each column, into arrays of as many; texts are of `size` characters at most.
// Returns whether there are just so many, all plain.
JAXRNN_EXPORT int JaxrnnReadTable1(const char* text, int64_t size, char delimiter, int64_t num_columns, const uint8_t* kinds,
                                   Column* columns, int64_t num_rows) {
  if (!EndsWithLineFeed(text, size) || size > INT32_MAX || num_columns > kMostColumns) return false;
  TextColumn texts[kMostColumns];
  const char *at = text, *const end = text + size;
  for (int64_t row = 0; row < num_rows; ++row) {
    if (at == end || *at == '\n' || *at == '\r') return false;  // fewer records, or a blank line
    for (int64_t c = 0; c < num_columns; ++c) {
      switch (kinds[c]) {
        case kDecimal: at = ReadCell<Decimal>(at, end, columns[c], row); break;
        case kWhole: at = ReadCell<Whole>(at, end, columns[c], row); break;
        case kUnread: at = PassText(at, delimiter); break;
        default: at = texts[c].Read(at, end, delimiter, columns[c], row);
      }
      if (!at) return false;
      if (c + 1 < num_columns) {
        if (*at++ != delimiter) return false;
      } else {
        at += *at == '\r';
        if (*at++ != '\n') return false;
      }
    }
  }
  return at == end;
}
