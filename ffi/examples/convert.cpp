// Converts a float model to int8 with samples from a file, saves it, and runs it on the first sample.
//
//   c++ -std=c++17 convert.cpp -lbantam -o convert && ./convert MODEL.tflite SAMPLES.raw OUT.tflite [TARGET]
//
// SAMPLES.raw holds one sample after the other, and of each the inputs in the model's order, as numbers of this machine.
#include <cstring>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bantam.h"

namespace {

struct Free {
  void operator()(bantam_model *model) const { bantam_model_free(model); }
  void operator()(bantam_session *session) const { bantam_session_free(session); }
  void operator()(char *text) const { bantam_string_free(text); }
};
using Model = std::unique_ptr<bantam_model, Free>;
using Session = std::unique_ptr<bantam_session, Free>;
using Text = std::unique_ptr<char, Free>;

// Calls `function(arguments..., &error)` and throws what goes wrong.
template <typename Function, typename... Arguments>
void call(Function function, Arguments... arguments) {
  bantam_error *error = nullptr;
  if (function(arguments..., &error) == BANTAM_OK) return;
  const std::string message = std::string(bantam_status_name(bantam_error_status(error))) + ": " +
                              bantam_error_message(error);
  bantam_error_free(error);
  throw std::runtime_error(message);
}

Session new_session(const bantam_model *model) {
  bantam_session *session = nullptr;
  call(bantam_session_new, model, static_cast<const bantam_session_options *>(nullptr), &session);
  return Session(session);
}

std::vector<size_t> input_sizes(const bantam_session *session) {
  std::vector<size_t> sizes(bantam_session_input_count(session));
  for (size_t i = 0; i < sizes.size(); i++) {
    bantam_tensor_info info = BANTAM_TENSOR_INFO_INIT;
    call(bantam_session_input, session, i, &info);
    sizes[i] = info.byte_size;
  }
  return sizes;
}

struct Samples {
  std::vector<char> bytes;
  size_t size = 0;
};

// A bantam_sample_fn, which must not throw.
int32_t sample(void *user, size_t index, const bantam_output *inputs, size_t inputs_len) noexcept {
  const Samples *samples = static_cast<const Samples *>(user);
  const char *from = samples->bytes.data() + index * samples->size;
  for (size_t i = 0; i < inputs_len; i++) {
    std::memcpy(inputs[i].data, from, inputs[i].size);
    from += inputs[i].size;
  }
  return 0;
}

void run(const std::string &path, const Samples &samples) {
  bantam_model *opened = nullptr;
  call(bantam_model_open, path.c_str(), &opened);
  const Model model(opened);
  const Session session = new_session(model.get());
  std::vector<bantam_input> inputs;
  size_t at = 0;
  for (size_t size : input_sizes(session.get())) {
    inputs.push_back({samples.bytes.data() + at, size});
    at += size;
  }
  std::vector<std::vector<char>> results(bantam_session_output_count(session.get()));
  std::vector<bantam_output> outputs;
  for (size_t i = 0; i < results.size(); i++) {
    bantam_tensor_info info = BANTAM_TENSOR_INFO_INIT;
    call(bantam_session_output, session.get(), i, &info);
    results[i].resize(info.byte_size);
    outputs.push_back({results[i].data(), results[i].size()});
  }
  call(bantam_session_run, session.get(), inputs.data(), inputs.size(), outputs.data(), outputs.size());
  for (const std::vector<char> &result : results) {
    std::vector<float> values(result.size() / sizeof(float));
    std::memcpy(values.data(), result.data(), values.size() * sizeof(float));
    for (float value : values) std::cout << value << ' ';
    std::cout << '\n';
  }
}

void convert(const char *from, const char *raw, const char *to, const char *target) {
  bantam_model *opened = nullptr;
  call(bantam_model_open, from, &opened);
  const Model model(opened);

  Samples samples;
  std::ifstream file(raw, std::ios::binary);
  if (!file) throw std::runtime_error(std::string("cannot read ") + raw);
  samples.bytes.assign(std::istreambuf_iterator<char>(file), {});
  const Session session = new_session(model.get());
  for (size_t size : input_sizes(session.get())) samples.size += size;
  if (samples.size == 0 || samples.bytes.size() < samples.size) throw std::runtime_error("there is no sample");

  bantam_convert_options options = BANTAM_CONVERT_OPTIONS_INIT;
  options.sample_count = samples.bytes.size() / samples.size;
  options.target = target;
  bantam_model *made = nullptr;
  char *report = nullptr;
  call(bantam_convert, model.get(), &options, sample, static_cast<void *>(&samples), &made, &report);
  const Model converted(made);
  const Text text(report);
  std::cout << text.get() << '\n';
  call(bantam_model_save, converted.get(), to);
  run(to, samples);
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 4) {
    std::cerr << "usage: " << argv[0] << " MODEL.tflite SAMPLES.raw OUT.tflite [TARGET]\n";
    return 2;
  }
  try {
    convert(argv[1], argv[2], argv[3], argc > 4 ? argv[4] : nullptr);
  } catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  return 0;
}
