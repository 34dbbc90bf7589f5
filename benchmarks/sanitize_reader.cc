// Calls the reader of plain text (jaxrnn/data/readers/native) as Python does, on texts near those that it takes, for
// sanitizers to look at: texts and what is made of them lie in memory of just their size.
//
//     sanitize_reader CASES SEED
#include "../jaxrnn/data/readers/native/plain_text.cc"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace {

std::mt19937 generator;

int Draw(int below) { return int(generator() % unsigned(below)); }

std::string DrawCell() {
  static const char* const kCells[] = {"0",    "7",       "-3",  "12345678", "-99999999", "123456789012345678", "",
                                       "1.5",  "-0",      ".5",  "5.",       "1e5",       "-2.5E-3",            "1e400",
                                       "nan",  "0x10",    "+4",  "a",        "unit 7",    "\"",                 "1e-400",
                                       "--1",  "1.2.3",   " 8 ", "1e",       "\xff",      "9007199254740993",   "1e99999"};
  std::string cell = kCells[Draw(sizeof(kCells) / sizeof(*kCells))];
  if (Draw(40) == 0) cell = std::string(Draw(5000), "0123456789. "[Draw(12)]);
  if (Draw(8) == 0 && !cell.empty()) cell[Draw(int(cell.size()))] = char(Draw(256));
  return cell;
}

std::string DrawText(int columns) {
  std::string text;
  for (int row = 0, rows = Draw(6); row < rows; ++row) {
    const bool is_plain = Draw(3) > 0;
    for (int column = 0; column < columns - (Draw(20) == 0); ++column) {
      if (column) text += ',';
      text += is_plain ? std::to_string(Draw(2000) - 1000) + (Draw(2) ? "" : ".25") : DrawCell();
    }
    text += Draw(10) ? "\n" : "\r\n";
  }
  if (Draw(10) == 0 && !text.empty()) text.resize(Draw(int(text.size())));
  return text;
}

// A copy of just its size: one read behind its end is a report.
template <typename T>
std::unique_ptr<T[]> Exactly(size_t size) {
  return std::unique_ptr<T[]>(new T[size]);
}

int accepted = 0;

void Check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::exit(1);
}

void ReadOne() {
  const int columns = 1 + Draw(4);
  const std::string text = DrawText(columns);
  const int64_t size = int64_t(text.size());
  auto own = Exactly<char>(size);
  text.copy(own.get(), size);
  for (int is_whole = 0; is_whole < 2; ++is_whole) {
    const int64_t capacity = size / 2;
    auto values = Exactly<char>(capacity * (is_whole ? sizeof(int32_t) : sizeof(double)));
    auto lengths = Exactly<int32_t>(capacity);
    int64_t num_values = -1, num_rows = -1;
    if (JaxrnnReadRows1(own.get(), size, ',', is_whole, 1, 1000, values.get(), lengths.get(), capacity, &num_values, &num_rows)) {
      int64_t sum = 0;
      for (int64_t row = 0; row < num_rows; ++row) sum += lengths[row];
      Check(sum == num_values && num_values <= capacity, "lengths that do not add up to the values");
      ++accepted;
    }
  }
  const int64_t rows = JaxrnnCountLines1(own.get(), size) + (Draw(20) == 0);
  std::vector<uint8_t> kinds(columns);
  std::vector<Column> given(columns);
  std::vector<std::unique_ptr<double[]>> numbers(columns);
  std::vector<std::unique_ptr<int32_t[]>> first(columns), ends(columns);
  std::vector<std::unique_ptr<char[]>> characters(columns);
  for (int c = 0; c < columns; ++c) {
    kinds[c] = uint8_t(Draw(4));
    numbers[c] = Exactly<double>(rows);
    first[c] = Exactly<int32_t>(rows);
    ends[c] = Exactly<int32_t>(rows);
    characters[c] = Exactly<char>(size);
    given[c] = {numbers[c].get(), first[c].get(), ends[c].get(), characters[c].get(), 0};
  }
  if (JaxrnnReadTable1(own.get(), size, ',', columns, kinds.data(), given.data(), rows)) {
    for (const Column& column : given) Check(column.num_texts <= rows, "more texts than rows");
    ++accepted;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int cases = argc > 1 ? std::atoi(argv[1]) : 1000;
  generator.seed(argc > 2 ? unsigned(std::atoi(argv[2])) : 0);
  for (int i = 0; i < cases; ++i) ReadOne();
  Check(accepted > cases / 20, "hardly a text was taken");
  std::printf("%d texts\n%d readings taken\n", cases, accepted);
  return 0;
}
