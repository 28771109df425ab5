// One maker per operation: checks a use of it and makes it ready to run.
#pragma once

#include "ops/op.h"

namespace s2s {

Made make_embedding(Call& call);
Made make_constant(Call& call);
Made make_linear(Call& call);
Made make_concat(Call& call);
Made make_slice(Call& call);
Made make_add(Call& call);
Made make_multiply(Call& call);
Made make_interpolate(Call& call);
Made make_activation(Call& call);
Made make_softmax(Call& call);
Made make_pool(Call& call);
Made make_one_hot(Call& call);
Made make_maxout(Call& call);
Made make_layer_norm(Call& call);
Made make_reverse(Call& call);
Made make_join(Call& call);
Made make_to_positions(Call& call);
Made make_scatter(Call& call);
Made make_first_step(Call& call);
Made make_rnn(Call& call);
Made make_rnn_cell(Call& call);
Made make_gru(Call& call);
Made make_lstm(Call& call);
Made make_gru_cell(Call& call);
Made make_lstm_cell(Call& call);
Made make_attention(Call& call);

}  // namespace s2s
