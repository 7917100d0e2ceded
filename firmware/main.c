/* The firmware: the board, the agent and the models that were compiled in. */
#include "agent.h"
#include "models.h"

int main(void) {
    agent_run(models, MODEL_COUNT, arenas);
}
